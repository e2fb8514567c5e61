"""The shard's numbers as text."""

from prometheus_client.parser import text_string_to_metric_families

from innkeeper_engine.exposition import MOST_FUNCTIONS, bounded_shard, environment_text, shard_text
from innkeeper_engine.model.numbers import EnvironmentNumbers, FunctionNumbers, ShardNumbers

GOLDEN = """\
# HELP inngest_function_run_ended_total The total number of function runs ended
# TYPE inngest_function_run_ended_total counter
inngest_function_run_ended_total{date="2025-02-12",fn="my-app-my-function",status="Completed"} 480
inngest_function_run_ended_total{date="2025-02-12",fn="my-app-my-function",status="Failed"} 20
# HELP inngest_function_run_scheduled_total The total number of function runs scheduled
# TYPE inngest_function_run_scheduled_total counter
inngest_function_run_scheduled_total{date="2025-02-12",fn="my-app-my-function"} 500
# HELP inngest_function_run_started_total The total number of function runs started
# TYPE inngest_function_run_started_total counter
inngest_function_run_started_total{date="2025-02-12",fn="my-app-my-function"} 500
# HELP inngest_sdk_req_ended_total The total number of SDK invocation/step execution ended
# TYPE inngest_sdk_req_ended_total counter
inngest_sdk_req_ended_total{date="2025-02-12",fn="my-app-my-function",status="errored"} 17
inngest_sdk_req_ended_total{date="2025-02-12",fn="my-app-my-function",status="failed"} 15
inngest_sdk_req_ended_total{date="2025-02-12",fn="my-app-my-function",status="success"} 740
# HELP inngest_sdk_req_scheduled_total The total number of SDK invocation/step execution scheduled
# TYPE inngest_sdk_req_scheduled_total counter
inngest_sdk_req_scheduled_total{date="2025-02-12",fn="my-app-my-function"} 772
# HELP inngest_sdk_req_started_total The total number of SDK invocation/step execution started
# TYPE inngest_sdk_req_started_total counter
inngest_sdk_req_started_total{date="2025-02-12",fn="my-app-my-function"} 772
# HELP inngest_step_output_bytes_total The total number of bytes used by step outputs
# TYPE inngest_step_output_bytes_total counter
inngest_step_output_bytes_total{date="2025-02-12",fn="my-app-my-function"} 2804
# HELP inngest_steps_running The number of steps currently running
# TYPE inngest_steps_running gauge
inngest_steps_running{fn="my-app-my-function"} 7
# HELP inngest_steps_scheduled The number of steps scheduled
# TYPE inngest_steps_scheduled gauge
inngest_steps_scheduled{fn="my-app-my-function"} 30
"""
"""The sample of Inngest's documentation, as it is."""

DAY = "2025-02-12"


def sample() -> FunctionNumbers:
    counts = {
        "C": 480,
        "F": 20,
        "s": 500,
        "b": 500,
        "1": 17,
        "2": 15,
        "0": 740,
        "q": 772,
        "r": 772,
        "o": 2804,
    }
    return FunctionNumbers(counts={DAY: counts}, steps_running=7, steps_scheduled=30)


def shard(*environments: EnvironmentNumbers, now_ms: int = 10_000) -> ShardNumbers:
    return ShardNumbers(now_ms=now_ms, environments=list(environments))


def test_an_environments_text_is_that_of_the_documentation() -> None:
    env = EnvironmentNumbers(name="production", functions={"my-app-my-function": sample()})

    assert environment_text(env).decode() == GOLDEN


def test_the_text_of_all_environments_has_their_names_and_can_be_parsed() -> None:
    text = shard_text(
        shard(
            EnvironmentNumbers(name="production", functions={"a-b": sample()}, stuck=2, events_waiting=3),
            EnvironmentNumbers(name="production~feature%2Fx", functions={"a-b": sample()}),
        )
    ).decode()

    families = {family.name: family for family in text_string_to_metric_families(text)}
    ended = families["inngest_function_run_ended"].samples
    assert {s.labels["env"] for s in ended} == {"production", "production/feature/x"}
    assert {s.labels["env"]: s.value for s in families["innkeeper_runs_stuck"].samples}["production"] == 2
    assert families["innkeeper_leases_expired"].type == "counter"
    assert {s.labels["state"] for s in families["innkeeper_queue_lanes"].samples} == {
        "ready",
        "parked",
        "held",
    }


def test_what_a_name_holds_is_escaped() -> None:
    env = EnvironmentNumbers(name="e", functions={'a"b\\c\nd': sample()})

    families = text_string_to_metric_families(environment_text(env).decode())
    assert {s.labels["fn"] for family in families for s in family.samples} == {'a"b\\c\nd'}


def test_the_age_of_the_oldest_run_is_in_seconds_and_never_below_zero() -> None:
    functions = {
        "late": FunctionNumbers(oldest_ms=4_000.0),
        "early": FunctionNumbers(oldest_ms=99_000.0),
        "idle": FunctionNumbers(),
    }
    text = shard_text(shard(EnvironmentNumbers(name="e", functions=functions))).decode()

    families = {family.name: family for family in text_string_to_metric_families(text)}
    ages = {s.labels["fn"]: s.value for s in families["innkeeper_queue_oldest_age_seconds"].samples}
    assert ages == {"late": 6.0, "early": 0.0, "idle": 0.0}


def test_the_age_of_the_oldest_event_is_in_seconds() -> None:
    text = shard_text(
        shard(EnvironmentNumbers(name="late", oldest_event_ms=4_000.0), EnvironmentNumbers(name="idle"))
    ).decode()

    families = {family.name: family for family in text_string_to_metric_families(text)}
    ages = {s.labels["env"]: s.value for s in families["innkeeper_events_oldest_age_seconds"].samples}
    assert ages == {"late": 6.0, "idle": 0.0}


def test_functions_beyond_the_bound_are_shown_together() -> None:
    functions = {f"fn-{n:05}": sample() for n in range(MOST_FUNCTIONS + 3)}
    env = EnvironmentNumbers(name="e", functions=functions)

    families = {f.name: f for f in text_string_to_metric_families(environment_text(env).decode())}
    started = {s.labels["fn"]: s.value for s in families["inngest_function_run_started"].samples}
    assert len(started) == MOST_FUNCTIONS + 1
    assert started["_other"] == 3 * 500
    assert sum(started.values()) == 500 * len(functions)
    assert {s.labels["fn"]: s.value for s in families["inngest_steps_running"].samples}["_other"] == 21


def test_environments_and_functions_of_all_of_them_are_bounded_and_nothing_is_lost() -> None:
    environments = [
        EnvironmentNumbers(name=f"e{n:05}", functions={f"f{k}": sample() for k in range(20)}, stuck=1)
        for n in range(1_100)
    ]

    bounded = bounded_shard(shard(*environments))

    assert len(bounded.environments) == 1_001
    assert sum(env.stuck for env in bounded.environments) == 1_100
    functions = [f for env in bounded.environments for f in env.functions.values()]
    assert len(functions) <= 10_000 + 1_001
    assert sum(f.counts[DAY]["s"] for f in functions) == 500 * 20 * 1_100
