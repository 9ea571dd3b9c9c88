"""First run of a newcomer: ratings and movies like MovieLens latest-small, from two CSV files to a published bundle.

    python bench/first_run.py                    # 100,836 ratings of 610 users, 9,742 movies, default settings
    python bench/first_run.py --small            # a fiftieth of it
    python bench/first_run.py pretrain.max_steps=0 text.dim=64

The files are generated: users with tastes by genre rate in sittings over 22 years, half of them in a single one; titles
are words with a year. `txrec init` writes the configuration, of which nothing is edited. Each stage is run as on the
command line; a table gives its wall-clock and processor time (of this process and all that it
started), the latter being what a busy machine does not change.

The log holds no searches. A second table searches for movies by name, for users with a history: the share of searches
with the movie in the first place and among ten, as published, with equal weights of all candidate sources, and by words
alone. Last line: one JSON object.
"""

import argparse
import json
import tempfile
import time
from contextlib import chdir
from pathlib import Path

import numpy as np
import polars as pl
import psutil
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pipelines import init, stages
from pipelines.command_line.display import Display
from pipelines.command_line.runner import run_stage
from pipelines.distributed import cluster
from txrec.config import Config
from txrec.config_loader import load
from txrec.index.rank_fusion import Fusion
from txrec.recommender.recommender import Recommender, Request
from txrec.registry.registry import Registry

GENRES = ("Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Drama", "Fantasy", "Horror", "Romance")
SYLLABLES = ("ba", "co", "den", "fi", "gor", "hal", "in", "ka", "lor", "mun", "no", "pe", "ras", "sto", "ti", "vel")
START_S, END_S = 828_000_000, 1_537_000_000  # 1996 to 2018
ONCE_FRAC = 0.5
"""Users that never come back after their first sitting."""
NUM_SEARCHES = 1_000


def main() -> None:
    """Writes the files, runs the stages, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a fiftieth of the ratings and movies")
    parser.add_argument("--until", default="publish", choices=list(stages.STAGES), help="the last stage")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="dotted overrides of the configuration")
    args = parser.parse_args()
    num_users, num_movies, num_ratings = (61, 400, 2_016) if args.small else (610, 9_742, 100_836)
    quick = ["train.max_epochs=1", "pretrain.max_steps=5", "ranker.max_examples=100"] if args.small else []
    cluster.set_environment()
    with tempfile.TemporaryDirectory() as name, chdir(name):
        write_files(Path("data"), num_users, num_movies, num_ratings)
        began = time.monotonic(), processor_s()
        initialised = init.run(["data/ratings.csv", "data/movies.csv"], Path("shop.toml"))
        times = {"init": (time.monotonic() - began[0], processor_s() - began[1])}
        config = load(initialised.path, [f"runs_root={name}/runs", f"data.root={name}/data", *quick, *args.overrides])
        with cluster.connect():
            times |= timed_stages(config, args.until)
        searched = args.until == "publish" and Registry(config.registry_dir).production is not None
        shares_by_order = searches_by_name(Recommender.open(Registry(config.registry_dir).folder())) if searched else {}
    table = Table("stage", "seconds", "processor seconds", box=None, pad_edge=False)
    for stage, (wall, processor) in times.items():
        table.add_row(stage, f"{wall:.1f}", f"{processor:.1f}")
    Console().print(table)
    searches = Table("searches", "name: first, among ten", "typing error: first, among ten", box=None, pad_edge=False)
    for order, shares in shares_by_order.items():
        searches.add_row(order, *(f"{first:.3f} {ten:.3f}" for first, ten in shares.values()))
    Console().print(searches)
    whole = {"seconds": sum(wall for wall, _ in times.values()), "cpu_s": sum(cpu for _, cpu in times.values())}
    print(
        json.dumps(
            {"ratings": num_ratings, "movies": num_movies, **whole, "stages": times, "searches": shares_by_order}
        )
    )


def searches_by_name(recommender: Recommender, seed: int = 0) -> dict[str, dict[str, list[float]]]:
    """Order of the results = kind of query = [share with the movie first, share with it among ten]."""
    rng = np.random.default_rng(seed)
    names = [title.rpartition(" (")[0] for title in recommender.catalogue.titles[1:]]
    targets = rng.choice(names, min(NUM_SEARCHES, len(names)), replace=False).tolist()
    users = rng.choice(recommender.known_users(), len(targets)).tolist()
    queries = {"name": targets, "typing error": [_misspelt(name, rng) for name in targets]}
    fitted, made = recommender.retriever.fusion, dict[str, dict[str, list[float]]]()
    orders: dict[str, tuple[Fusion, tuple[str, ...]]] = {
        "published": (fitted, ()), "equal weights": (Fusion(), ()), "words alone": (fitted, ("lexical",)),
    }  # fmt: skip
    for order, (recommender.retriever.fusion, sources) in orders.items():
        made[order] = {}
        for kind, texts in queries.items():
            pairs = zip(users, texts, strict=True)
            slates = recommender.recommend(
                [Request(user, query=text, top_k=10, sources=sources) for user, text in pairs]
            )
            shown = [[names[recommender.catalogue.idx_of[one.item_id] - 1] for one in slate.items] for slate in slates]
            first = [name in titles[:1] for name, titles in zip(targets, shown, strict=True)]
            ten = [name in titles for name, titles in zip(targets, shown, strict=True)]
            made[order][kind] = [round(float(np.mean(first)), 4), round(float(np.mean(ten)), 4)]
    return made


def _misspelt(name: str, rng: np.random.Generator) -> str:
    """A name with two neighbouring letters in the wrong order."""
    at = int(rng.integers(len(name) - 1))
    return name[:at] + name[at + 1] + name[at] + name[at + 2 :]


def timed_stages(config: Config, last: str) -> dict[str, tuple[float, float]]:
    """(Wall-clock seconds, processor seconds) of each stage up to the last."""
    times, display = {}, Display()
    for stage in stages.STAGES.values():
        wall, cpu = time.monotonic(), processor_s()
        run_stage(config, stage, display)
        times[stage.name] = (time.monotonic() - wall, processor_s() - cpu)
        if stage.name == last:
            break
    return times


def processor_s() -> float:
    """Processor seconds of this process and its children, those that have ended included."""
    total = 0.0
    for process in (me := psutil.Process(), *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def write_files(folder: Path, num_users: int, num_movies: int, num_ratings: int, seed: int = 0) -> None:
    """Writes `ratings.csv` and `movies.csv` as MovieLens does."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    genres = rng.random((num_movies, len(GENRES))) < 0.22
    genres[np.arange(num_movies), rng.integers(len(GENRES), size=num_movies)] = True
    words = ["".join(rng.choice(SYLLABLES, rng.integers(2, 4))).capitalize() for _ in range(4_000)]
    titles = [" ".join(rng.choice(words, rng.integers(1, 5))) for _ in range(num_movies)]
    years = rng.integers(1950, 2018, num_movies)
    pl.DataFrame(
        {
            "movieId": np.arange(1, num_movies + 1),
            "title": [f"{title} ({year})" for title, year in zip(titles, years, strict=True)],
            "genres": ["|".join(np.array(GENRES)[row]) for row in genres],
        }
    ).write_csv(folder / "movies.csv")
    counts = np.maximum(20, rng.lognormal(0, 1.2, num_users))
    counts = np.minimum(np.round(counts / counts.sum() * num_ratings), num_movies // 2).astype(np.int64).clip(5)
    popularity = 1.0 / np.arange(5, num_movies + 5) ** 0.9
    rows = []
    for user, count in enumerate(counts.tolist(), start=1):
        weight = popularity * np.exp(1.2 * genres @ rng.standard_normal(len(GENRES)))
        movies = rng.choice(num_movies, count, replace=False, p=weight / weight.sum())
        rows.append(
            pl.DataFrame(
                {
                    "userId": np.full(count, user),
                    "movieId": movies + 1,
                    "rating": rng.integers(1, 11, count) / 2,
                    "timestamp": _times(rng, count),
                }
            )
        )
    pl.concat(rows).write_csv(folder / "ratings.csv")


def _times(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """(count,) ascending instants of one user's ratings, seconds since 1970: one sitting or a few of them."""
    num_sittings = 1 if rng.random() < ONCE_FRAC else int(rng.integers(2, 7))
    starts = rng.integers(START_S, END_S) + np.append(0, np.cumsum(rng.exponential(90 * 86_400, num_sittings - 1)))
    sitting = np.sort(rng.integers(num_sittings, size=count))
    return starts[sitting].astype(np.int64) + np.cumsum(rng.integers(2, 60, count))


if __name__ == "__main__":
    main()
