"""Keys from Secrets: which may be read, which are keys, whose they are."""

from typing import Any

import pytest

from innkeeper_apps.wire.keys import bearer_digest, bearer_hash, normalise, signing_key_digests
from innkeeper_engine.model.environments import key_digest
from innkeeper_operator.keys import (
    AppKeys,
    UnusableKeyError,
    event_entries,
    find_signing_key,
    key_fingerprint,
    key_notice,
    namespace_signing_keys,
    own_signing_keys,
    read_event_keys,
    settled_keys,
    wanted_secrets,
)
from innkeeper_operator.objects import AppObject, Meta, SecretObject, read_app
from innkeeper_operator.specs import SecretKeyRef

OLD, NEW, THIRD = (f"signkey-prod-{letters * 32}" for letters in ("ab", "cd", "ef"))


class CountingSealer:
    """Seals to something else each time, as the real one does."""

    def __init__(self) -> None:
        self.count = 0

    def seal(self, plain: bytes) -> bytes:
        """Number and text."""
        self.count += 1
        return b"%d:%s" % (self.count, plain[-4:])


def secret(name: str, label: str, /, annotations: dict[str, str] | None = None, **data: str) -> SecretObject:
    """A Secret of namespace prod; underscores in the names of its keys stand for dashes."""
    meta = Meta(
        name=name,
        namespace="prod",
        labels={"innkeeper.dev/key": label} if label else {},
        annotations=annotations or {},
    )
    return SecretObject(meta, {key.replace("_", "-"): value.encode() for key, value in data.items()})


def by_key(*secrets: SecretObject) -> dict[tuple[str, str], SecretObject]:
    """Secrets by namespace and name."""
    return {each.meta.key: each for each in secrets}


def app(name: str = "shop", **spec: Any) -> AppObject:
    """An InngestApp of namespace prod."""
    endpoint = {"service": {"name": "shop", "port": 3000}}
    made = read_app({"metadata": {"name": name, "namespace": "prod"}, "spec": {"endpoint": endpoint} | spec})
    assert isinstance(made, AppObject)
    return made


def ref(name: str, key: str) -> dict[str, Any]:
    """A reference to one key of a Secret."""
    return {"secretRef": {"name": name, "key": key}}


def refused(ref: SecretKeyRef, *secrets: SecretObject) -> UnusableKeyError:
    """Why a reference cannot be used."""
    with pytest.raises(UnusableKeyError) as caught:
        find_signing_key("prod", ref, by_key(*secrets))
    return caught.value


# ---- signing keys


def test_a_key_is_found_with_or_without_prefix_and_line_break() -> None:
    for text in (OLD, f"{OLD}\n", "  " + normalise(OLD)):
        found = find_signing_key(
            "prod", SecretKeyRef(name="s", key="k"), by_key(secret("s", "signing", k=text))
        )
        assert found.key == text.strip()
        assert found.source == "Secret prod/s, key k"


def test_a_secret_without_the_label_is_never_used() -> None:
    for label in ("", "event", "webhook", "env", "signings"):
        error = refused(SecretKeyRef(name="s", key="k"), secret("s", label, k=OLD))
        assert error.reason == "SecretNotLabelled"
        assert "label it innkeeper.dev/key: signing" in str(error)
    both = by_key(secret("s", "event.signing", k=OLD))
    assert find_signing_key("prod", SecretKeyRef(name="s", key="k"), both).key == OLD


def test_a_secret_that_is_not_there_is_said() -> None:
    error = refused(SecretKeyRef(name="s", key="k"), secret("other", "signing", k=OLD))
    assert (error.reason, str(error)) == (
        "SecretNotFound",
        "there is no Secret s with the label innkeeper.dev/key: signing in namespace prod",
    )


def test_a_reference_does_not_leave_its_namespace() -> None:
    secrets = by_key(secret("s", "signing", k=OLD))
    with pytest.raises(UnusableKeyError):
        find_signing_key("staging", SecretKeyRef(name="s", key="k"), secrets)


@pytest.mark.parametrize("text", ["", "signkey-prod-", "hello", "signkey-prod-abc", "0x12", "ключ"])
def test_what_is_no_key_is_refused_without_showing_it(text: str) -> None:
    error = refused(SecretKeyRef(name="s", key="k"), secret("s", "signing", k=text))
    assert error.reason == "InvalidKey"
    assert "Secret prod/s, key k cannot be used: a signing key is" in str(error)
    assert not text or text == "signkey-prod-" or text not in str(error)


def test_an_entry_that_is_not_there_is_said_with_those_that_are() -> None:
    error = refused(SecretKeyRef(name="s", key="k"), secret("s", "signing", b=OLD, a=OLD))
    assert (error.reason, str(error)) == ("InvalidKey", "the Secret s has no key k: its keys are a, b")


def test_a_namespaces_keys_are_the_current_one_and_its_fallback() -> None:
    both = secret("innkeeper-keys", "event.signing", event_key="e", signing_key=NEW, signing_key_fallback=OLD)
    found, problem = namespace_signing_keys("prod", both, generate=False)
    assert ([each.key for each in found], problem) == ([NEW, OLD], None)
    one = secret("innkeeper-keys", "event.signing", signing_key=NEW)
    assert [each.key for each in namespace_signing_keys("prod", one, generate=False)[0]] == [NEW]


def test_missing_namespace_keys_are_being_made_or_said() -> None:
    assert namespace_signing_keys("prod", None, generate=True) == (
        (),
        ("KeysPending", "the Secret innkeeper-keys is about to be made in namespace prod"),
    )
    found, problem = namespace_signing_keys("prod", None, generate=False)
    assert found == ()
    assert problem is not None
    assert problem[0] == "SecretNotFound"
    assert "innkeeper.dev/key: event.signing" in problem[1]


def test_with_a_bad_fallback_the_current_key_is_used_and_without_a_current_one_nothing() -> None:
    shop = app(signingKey=ref("new", "k"), signingKeyFallback=ref("old", "k"))
    new, old = secret("new", "signing", k=NEW), secret("old", "signing", k=OLD)
    found, problem = own_signing_keys(shop, by_key(new, old))
    assert ([each.key for each in found], problem) == ([NEW, OLD], None)
    found, problem = own_signing_keys(shop, by_key(new))
    assert [each.key for each in found] == [NEW]
    assert problem is not None
    assert problem[0] == "SecretNotFound"
    found, problem = own_signing_keys(shop, by_key(old))
    assert found == ()
    assert problem is not None


def settled(*texts: str, known: AppKeys | None = None, sealer: CountingSealer | None = None) -> AppKeys:
    """An app's keys from a Secret."""
    names = [f"k{n}" for n in range(len(texts))]
    there = SecretObject(
        Meta(name="s", namespace="prod", labels={"innkeeper.dev/key": "signing"}),
        {name: text.encode() for name, text in zip(names, texts, strict=True)},
    )
    found = [find_signing_key("prod", SecretKeyRef(name="s", key=n), by_key(there)) for n in names]
    return settled_keys(found, None, elsewhere={}, known=known, sealer=sealer or CountingSealer())


def test_keys_are_encrypted_again_only_when_they_are_others() -> None:
    sealer = CountingSealer()
    first = settled(NEW, OLD, sealer=sealer)
    assert len(first.sealed) == 2
    assert settled(NEW, OLD, known=first, sealer=sealer).sealed == first.sealed
    assert settled(NEW.replace("signkey-prod-", ""), OLD, known=first, sealer=sealer).sealed == first.sealed
    swapped = settled(OLD, NEW, known=first, sealer=sealer)
    assert swapped.sealed != first.sealed
    assert swapped.fingerprint != first.fingerprint


def test_a_fingerprint_is_equal_for_equal_keys_and_tells_none() -> None:
    assert key_fingerprint([NEW]) == key_fingerprint([normalise(NEW).upper().lower()])
    assert len({key_fingerprint(keys) for keys in ([], [NEW], [OLD], [NEW, OLD], [OLD, NEW])}) == 5
    assert key_fingerprint([]) == ""
    assert bearer_hash(NEW)[:12] not in key_fingerprint([NEW])


def test_a_key_that_opens_another_environment_is_not_used() -> None:
    there = secret("s", "signing", k=NEW)
    found = [find_signing_key("prod", SecretKeyRef(name="s", key="k"), by_key(there))]
    elsewhere = {key_digest(bearer_hash(NEW)): "staging"}
    keys = settled_keys(found, None, elsewhere=elsewhere, known=None, sealer=CountingSealer())
    assert (keys.keys, keys.fingerprint, keys.usable) == ((), "", False)
    assert keys.problem is not None
    assert keys.problem[0] == "KeyShared"
    assert "also opens the environment staging" in keys.problem[1]


def test_an_app_without_any_key_can_be_asked_only_where_nothing_is_wrong() -> None:
    assert AppKeys().usable
    assert not AppKeys(problem=("KeysPending", "soon")).usable
    assert settled(NEW).usable


def test_who_still_has_the_old_key_is_said_before_it_goes() -> None:
    rotating = settled(NEW, OLD)
    assert key_notice(rotating, bearer_hash(NEW)) is None
    assert key_notice(rotating, bearer_hash(NEW)[:12].upper()) is None
    assert key_notice(rotating, "") is None
    assert key_notice(AppKeys(), bearer_hash(OLD)) is None
    old = key_notice(rotating, bearer_hash(OLD)[:12])
    assert old is not None
    assert old[0] == "OldSigningKey"
    assert f"(hash {bearer_hash(OLD)[:12]}, Secret prod/s, key k1)" in old[1]
    assert f"(hash {bearer_hash(NEW)[:12]}, Secret prod/s, key k0)" in old[1]
    other = key_notice(rotating, bearer_hash(THIRD))
    assert other is not None
    assert other[0] == "OtherSigningKey"


def test_the_secrets_that_apps_need_are_listed() -> None:
    apps = [app(), app("pay", signingKey=ref("pay-keys", "new"), signingKeyFallback=ref("pay-keys", "old"))]
    assert wanted_secrets(apps) == {("prod", "innkeeper-keys"), ("prod", "pay-keys")}
    assert wanted_secrets([]) == set()


# ---- event keys


def test_event_keys_are_the_entries_of_that_name_in_secrets_of_that_label() -> None:
    many = secret("web", "event", event_key="one", event_key_old="two", signing_key=OLD, other="x")
    found, problems = read_event_keys(many, {})
    assert problems == []
    assert [(each.name, each.digest, each.events, each.cidrs) for each in found] == [
        ("Secret prod/web, key event-key", key_digest("one"), (), ()),
        ("Secret prod/web, key event-key-old", key_digest("two"), (), ()),
    ]
    assert event_entries(secret("web", "signing", event_key="one")) == []


def test_annotations_bound_what_a_key_may_do() -> None:
    bounds = {
        "innkeeper.dev/allowed-events": "shop/*, user.*\n order/paid,order/paid",
        "innkeeper.dev/allowed-cidrs": "10.0.0.0/8 192.0.2.7,fd00::/8",
    }
    found, problems = read_event_keys(secret("web", "event", bounds, event_key="one"), {})
    assert problems == []
    assert found[0].events == ("shop/*", "user.*", "order/paid")
    assert found[0].cidrs == ("10.0.0.0/8", "192.0.2.7/32", "fd00::/8")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("events", "", "is empty: name events"),
        ("events", " , ", "is empty: name events"),
        ("events", "shop*", "'shop*': an asterisk stands for what comes after / or ."),
        ("events", "shop/*,*/paid", "'*/paid': an asterisk"),
        ("cidrs", "", "is empty: name networks"),
        ("cidrs", "10.1.2.3/8", "10.1.2.3/8 has host bits set"),
        ("cidrs", "10.0.0.0/8,office", "'office' does not appear to be"),
    ],
)
def test_a_bound_that_cannot_be_read_makes_the_key_be_refused(name: str, value: str, words: str) -> None:
    web = secret("web", "event", {f"innkeeper.dev/allowed-{name}": value}, event_key="one")
    found, problems = read_event_keys(web, {})
    assert found == []
    assert [reason for reason, _ in problems] == ["InvalidBounds"]
    assert words in problems[0][1]
    assert "one" not in problems[0][1].split()


@pytest.mark.parametrize("text", ["", "a b", "a?b", "a#b", "50%", "a\\b", "ключ", "x" * 256])
def test_what_cannot_stand_in_a_url_is_no_event_key(text: str) -> None:
    found, problems = read_event_keys(secret("web", "event", event_key=text, event_key_2="good/+="), {})
    assert [each.digest for each in found] == [key_digest("good/+=")]
    assert [reason for reason, _ in problems] == ["InvalidKey"]


def test_a_secret_of_the_label_without_a_key_is_said() -> None:
    assert read_event_keys(secret("web", "event", key="one"), {}) == (
        [],
        [("InvalidKey", "the Secret prod/web is labelled event and has no key event-key")],
    )


def test_an_event_key_that_opens_another_environment_is_not_accepted() -> None:
    found, problems = read_event_keys(secret("web", "event", event_key="one"), {key_digest("one"): "staging"})
    assert found == []
    assert problems[0][0] == "KeyShared"


def test_every_form_in_which_a_key_is_shown_has_its_digest() -> None:
    for shown in (OLD, normalise(OLD), bearer_hash(OLD), f"signkey-prod-{bearer_hash(OLD)}"):
        assert bearer_digest(f"Bearer {shown}") in signing_key_digests(OLD)
