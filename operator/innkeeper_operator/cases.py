"""Which functions a plan is about: what the app declares, what is registered, and what there are objects for."""

from collections.abc import Iterable

import msgspec

from innkeeper_apps.wire.fields import Problem
from innkeeper_apps.wire.register import Registration
from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_engine.model.switches import function_switch
from innkeeper_operator.functions import Case
from innkeeper_operator.objects import FunctionObject, Unreadable
from innkeeper_operator.ownership import belongs_to_another, claims, id_of, owned_by_operator, slug_of
from innkeeper_operator.views import Answered, AppView, Outcome, Refused


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What an app declares, now and before."""

    app_id: str
    """Empty while it is not known."""
    registered: App | None
    before: dict[str, FunctionConfig]
    """What is registered, by slug."""
    registration: Registration | None = None
    """What it has just declared."""
    refused: Refused | None = None
    """The same where it cannot be taken."""

    @classmethod
    def of(cls, view: AppView, outcome: Outcome | None, app_id: str) -> "Declared":
        """Of one app; what is registered for another id is not its own."""
        known = view.registered
        registered = known if known is not None and known.id == app_id else None
        return cls(
            app_id=app_id,
            registered=registered,
            before={each.slug: each for each in registered.functions} if registered else {},
            registration=outcome.registration if isinstance(outcome, Answered) else None,
            refused=outcome if isinstance(outcome, Refused) else None,
        )

    def functions(self, *, only_these: bool) -> dict[str, bytes]:
        """What is declared (JSON), by slug: in the answer, else as it is registered.

        `only_these`: what an answer does not name is gone.
        """
        found: dict[str, bytes] = {}
        if self.registration is None or not only_these:
            found = {slug: bytes(function.declared) for slug, function in self.before.items()}
        if self.registration is not None:
            found |= {function.slug: bytes(function.declared) for function in self.registration.functions}
        return found

    def handlers(self, slugs: Iterable[str]) -> set[str]:
        """Which of these are failure handlers that an SDK made for another of them."""
        configs = dict(self.before)
        if self.registration is not None:
            configs |= {function.slug: function for function in self.registration.functions}
        known = set(slugs)
        return {
            slug
            for slug in known
            if belongs_to_another(slug, [str(each.event) for each in configs[slug].triggers], known)
        }

    def wrong(self) -> dict[str, tuple[tuple[Problem, ...], bytes]]:
        """The functions for which a declaration was refused, by slug: what is wrong, and the declaration (JSON)."""
        if self.refused is None:
            return {}
        found = {}
        for slug, sent in self.refused.declared.items():
            problems = tuple(each for each in self.refused.problems if each.function == slug)
            if problems:
                found[slug] = (problems, sent)
        return found


def cases(view: AppView, declared: Declared) -> list[Case]:
    """Every function that is declared, or that somebody has made an object for."""
    functions = declared.functions(only_these=view.may_remove)
    handlers = declared.handlers(functions)
    app_id = declared.app_id
    claimed = claims(each for each in view.functions if isinstance(each, FunctionObject))
    unknown = any(isinstance(each, Unreadable) for each in view.functions)
    found: list[Case] = []
    met: set[str] = set()
    # Slugs with the app id first: should two be one id, the object is theirs.
    for slug in sorted(functions, key=lambda each: (id_of(app_id, each) == each, each)):
        function_id = id_of(app_id, slug)
        claim = claimed.get(function_id) if function_id not in met else None
        holder = claim.holder if claim else None
        found.append(
            Case(
                id=function_id,
                slug=slug,
                declared=functions[slug],
                registered=declared.before.get(slug),
                object=holder,
                hidden=function_id in met or slug in handlers,
                unknown_spec=unknown and (holder is None or owned_by_operator(holder.meta)),
                switch=view.switches.get(function_switch(slug)),
            )
        )
        met.add(function_id)
    missing = ({*claimed} | {id_of(app_id, slug) for slug in declared.wrong()}) - met
    for function_id in sorted(missing):
        claim = claimed.get(function_id)
        found.append(
            Case(
                id=function_id,
                slug=slug_of(app_id, function_id) if app_id else "",
                declared=None,
                registered=None,
                object=claim.holder if claim else None,
            )
        )
    return found
