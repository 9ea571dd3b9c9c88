"""Three machines that share nothing but Redis and S3: `ray up`, errors, jobs, serving, a machine that dies, `ray down`.

The tests are steps of one life of a cluster, in this order, because starting one takes most of the time.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.error import URLError
from urllib.request import urlopen

import boto3
import pytest

from tests import services
from tests.machines import ROOT, Machine, unavailable
from tests.pipelines.own_machines import RAY, OwnMachines, entry, environment, own_machines
from tests.waiting import wait_until
from txrec import object_storage, objects
from txrec.client import Client
from txrec.train import checkpoint

pytestmark = [
    pytest.mark.ray,
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]
RUN = "s3://shop/runs/demo"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnMachines]:
    """The cluster, and this process with access to its S3 server."""
    reason = unavailable()
    if reason:
        services.impossible(reason)
    folder = tmp_path_factory.mktemp("own-machines")
    with own_machines(folder) as cluster, pytest.MonkeyPatch.context() as patch:
        services.use_s3(patch, cluster.endpoint)
        patch.setenv("TXREC_CACHE", str(folder / "cache"))
        boto3.client("s3").create_bucket(Bucket="shop")
        started = cluster.ray("up", "-y", "--no-config-cache", str(cluster.file))
        assert started.returncode == 0, started.stdout[-3000:] + started.stderr[-2000:]
        try:
            yield cluster
        finally:
            cluster.ray("down", "-y", str(cluster.file))


def addresses(own: OwnMachines) -> set[str]:
    return {machine.address for machine in own.machines.all}


def test_ray_up_brings_up_every_machine(own: OwnMachines) -> None:
    wait_until("all machines have joined", lambda: own.alive() == addresses(own), 120, 0.5)


RAW = 'name = "raw"\n[data]\nroot = "/root/raw"\n[[data.events]]\npath = "clicks.csv"\n'
ERRORS = {
    "no shared storage": (
        "",
        "prepare configs/demo.toml runs_root=runs data.root=s3://shop/raw",
        r"runs_root = /root/txrec/runs: the machine \S+ does not see it, only the driver does; set runs_root to object",
    ),
    "a path that only the driver has": (
        f"mkdir -p ~/raw; printf '%s' '{RAW}' > ~/raw.toml;",
        "prepare ~/raw.toml runs_root=s3://shop/runs",
        r"data.root = /root/raw: the machine \S+ does not see it, only the driver does; set data.root to object",
    ),
    "a host name that does not resolve": (
        "",
        "train configs/demo.toml runs_root=s3://shop/runs data.root=s3://shop/raw train.num_workers=2",
        r"machine \S+: its own name does not resolve there, so workers of one training .*/etc/hosts",
    ),
    "no credentials": (
        "unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY;",
        "prepare configs/demo.toml runs_root=s3://shop/runs",
        r"s3://shop/runs/demo\S*: .*AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
}


def test_an_error_of_the_cluster_is_one_line_with_the_remedy(own: OwnMachines) -> None:
    broken = own.machines.all[1]
    assert broken.run("cp /etc/hosts /tmp/hosts; echo 127.0.0.1 localhost > /etc/hosts").returncode == 0
    try:
        with ThreadPoolExecutor() as pool:
            done = list(pool.map(lambda case: _on_head(own, *case[:2]), ERRORS.values()))
    finally:
        broken.run("cat /tmp/hosts > /etc/hosts")
    for (_, _, says), shown in zip(ERRORS.values(), done, strict=True):
        _is_one_line(shown, says)


def test_a_machine_without_the_package_is_one_line(own: OwnMachines) -> None:
    bare = own.machines.all[1:]
    assert all(machine.run("mv ~/txrec ~/away").returncode == 0 for machine in bare)
    try:
        shown = _on_head(own, "", "prepare configs/demo.toml runs_root=s3://shop/runs data.root=s3://shop/raw")
    finally:
        for machine in bare:
            machine.run("mv ~/away ~/txrec")
    _is_one_line(shown, r"machine \S+: its Python has no module pipelines; install txrec there, or submit the command")


def _on_head(own: OwnMachines, prepare: str, command: str) -> "subprocess.CompletedProcess[str]":
    ray = "RAY_ADDRESS=auto RAY_AUTH_MODE=token"
    return own.head.run(f"cd ~/txrec; {prepare} {ray} python -m pipelines {command}")


def _is_one_line(shown: "subprocess.CompletedProcess[str]", says: str) -> None:
    errors = [line for line in shown.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, shown.stdout + shown.stderr
    assert "Traceback" not in shown.stdout + shown.stderr
    assert shown.returncode == 3
    assert re.search(says, errors[0]), errors[0]


def test_a_submitted_search_runs_its_trials_on_different_machines(own: OwnMachines) -> None:
    longer = ("train.max_epochs=8", "train.batch_size=4", "train.patience=50", "tune.grace_epochs=8")
    whole = "train.cpus_per_worker=1.75"  # a machine has two, and a trial's own function takes a quarter
    job = own.submit("tune", "tune.num_trials=2", "tune.search=random", whole, *longer)
    assert job.returncode == 0, job.stdout[-4000:]
    first, second = own.workers(own.last_job())
    assert len(first) == len(second) == 1
    assert first != second
    assert first | second <= addresses(own)
    assert objects.exists(f"{RUN}/data/meta.json")
    best = objects.read(f"{RUN}/reports/tune/best.toml")
    assert best is not None
    assert b"lr" in best[0]


@pytest.fixture(scope="module")
def published(own: OwnMachines) -> str:
    """Id of the job that published version 1 after a training of two workers."""
    job = own.submit("publish", "train.num_workers=2")
    assert job.returncode == 0, job.stdout[-4000:]
    assert "succeeded" in job.stdout
    return own.last_job()


def test_a_submitted_job_trains_with_two_workers_on_two_machines_evaluates_and_publishes(
    own: OwnMachines, published: str
) -> None:
    (machines,) = own.workers(published)
    assert len(machines) == 2
    figures = objects.read(f"{RUN}/reports/metrics.json")
    assert figures is not None
    assert 0 < json.loads(figures[0])["test"]["ndcg@10"] < 1
    pointer = objects.read(f"{RUN}/registry/production.json")
    assert pointer is not None
    assert b"v1" in pointer[0]


@pytest.fixture(scope="module")
def urls(own: OwnMachines, published: str) -> dict[str, str]:
    """URL of the recommender by machine, after `serve deploy`."""
    own.deploy(f"{RUN}/registry")
    urls = {machine.name: f"http://{machine.address}:8000" for machine in own.machines.all}
    for name, url in urls.items():
        wait_until(f"{name} answers", partial(_is_ready, url), 150, 0.5)
    return urls


def test_the_serve_file_answers_on_every_machine(own: OwnMachines, urls: dict[str, str]) -> None:
    for machine in own.machines.all:
        with Client(urls[machine.name], timeout_s=60) as client:
            slate = client.recommend(query="phone", top_k=3)
        assert slate["model_version"] == "v1"
        assert len(slate["items"]) == 3


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def test_clicks_that_machines_took_lead_the_searches_of_all_of_them(own: OwnMachines, urls: dict[str, str]) -> None:
    item = ""
    for machine in own.machines.all:
        with Client(urls[machine.name], timeout_s=60) as client:
            item = item or client.recommend(top_k=1)["items"][0]["item_id"]
            client.log({"user_id": machine.name, "event": "click", "item_id": item, "query": "zorgblatt"})

    def learned(url: str) -> bool:
        with Client(url, timeout_s=60) as client:
            viewed = [client.recently_viewed(machine.name)["items"][0]["item_id"] for machine in own.machines.all]
            return {*viewed, client.search("zorgblatt", top_k=1)["items"][0]["item_id"]} == {item}

    for name, url in urls.items():
        wait_until(f"{name} counts the clicks", partial(learned, url), 120, 0.5)


def test_training_goes_on_from_its_checkpoint_on_the_other_machines_when_one_dies(own: OwnMachines) -> None:
    settings = ("train.num_workers=2", "train.max_epochs=12", "train.patience=50", "train.batch_size=4")
    share = "train.cpus_per_worker=1.2"  # no two on one machine, and room for replicas beside each
    job = subprocess.Popen(
        [str(RAY), "job", "submit", *own.submission, "--", *entry("train", *settings, share)], cwd=ROOT,
        env=environment(own.token), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_until(
            "a second checkpoint follows", lambda: job.poll() is not None or _checkpoints()[1:], 150, every_s=0.2
        )
        before = _history(_checkpoints()[0])
        training = own.last_job()
        (working,) = own.workers(training)
        dying = next(machine for machine in own.machines.all[1:] if machine.address in working)
        dying.kill()
        shown, _ = job.communicate(timeout=240)
    finally:
        job.kill()
    assert job.returncode == 0, shown[-4000:]
    assert own.alive() == addresses(own) - {dying.address}
    groups = own.workers(training)
    assert any(dying.address in group for group in groups)
    assert own.alive() in groups
    curve = objects.read(f"{RUN}/checkpoints/history/training.json")
    assert curve is not None
    epochs = json.loads(curve[0])
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, 13))
    assert epochs[: len(before)] == before  # seconds and rates too: these epochs were not trained again
    assert objects.exists(f"{RUN}/candidate/manifest.json")


def _checkpoints() -> list[str]:
    """Complete checkpoints of the training under way, oldest first."""
    entries = objects.listed(f"{RUN}/checkpoints/ray-history")
    return sorted(f"{RUN}/checkpoints/ray-history/{entry.key}" for entry in entries if entry.key.endswith("train.pt"))


def _history(uri: str) -> list[dict[str, object]]:
    _, state = checkpoint.read(object_storage.fetch(object_storage.local_path(uri)).parent)
    history: list[dict[str, object]] = state["history"]
    return history


def test_ray_down_leaves_no_process_on_any_machine(own: OwnMachines) -> None:
    done = own.ray("down", "-y", str(own.file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert own.processes(own.head) == []

    def is_bare(machine: Machine) -> bool:
        return not own.processes(machine)

    for machine in own.machines.all[1:]:  # Ray's local provider stops the head; the others have to miss it for 20 s
        if machine.answers():
            wait_until(f"nothing runs on {machine.name}", partial(is_bare, machine), 100, 2)
