"""RecTools' SASRecModel asked for the lists of a test part; run by `bench/peer_quality.py` in its own environment.

    python rectools_lists.py EVENTS.csv RESULT.json LISTS.csv '{"epochs": 40, "factors": 64, ...}'

EVENTS.csv has user, item, place (order within the user), split (0 train, 1 validation, 2 test). The number of epochs is
that with the best validation NDCG@10 (RecTools' own measure). Lists for the test part see all that lies before it and
come from the model trained before validation at its best epoch; with `refit` also from one trained anew on everything
before the test part for as many epochs. Settings that are not given are RecTools' defaults, except for the loss: full
softmax.
"""

import json
import sys
import time
from typing import Any

import pandas as pd
import torch
from pytorch_lightning import seed_everything
from rectools.dataset import Dataset
from rectools.metrics import NDCG
from rectools.models import SASRecModel

TRAIN, VALIDATION, TEST = 0, 1, 2


def main() -> None:
    events_path, result_path, lists_path, settings = *sys.argv[1:4], json.loads(sys.argv[4])
    torch.set_num_threads(settings["threads"])
    events = pd.read_csv(events_path)
    early, late = (events[events["split"] < split] for split in (VALIDATION, TEST))
    users = events.loc[events["split"] == TEST, "user"].unique()
    epochs: list[dict[str, float]] = []
    lists: dict[str, pd.DataFrame] = {}
    best = 0
    model, data = sasrec(settings), dataset(early)
    truth = events.loc[events["split"] == VALIDATION, ["user", "item"]].drop_duplicates()
    truth = truth.rename(columns={"user": "user_id", "item": "item_id"})
    while len(epochs) < min(settings["epochs"], best + settings["patience"]):
        started = time.perf_counter()
        model.fit_partial(data, min_epochs=1, max_epochs=1)
        seconds = time.perf_counter() - started
        ndcg = NDCG(k=10, divide_by_achievable=True).calc(answers(model, early, truth["user_id"], settings), truth)
        epochs.append({"epoch": len(epochs) + 1, "ndcg@10": ndcg, "seconds": seconds})
        print(json.dumps(epochs[-1]), flush=True)
        if ndcg >= max(epoch["ndcg@10"] for epoch in epochs):
            best = len(epochs)
            lists["before validation"] = answers(model, late, users, settings)
    if settings["refit"]:
        model = sasrec(settings)
        model.fit_partial(dataset(late), min_epochs=best, max_epochs=best)
        lists["before test"] = answers(model, late, users, settings)
    pd.concat(lists, names=["trained"]).reset_index("trained").to_csv(lists_path, index=False)
    with open(result_path, "w", encoding="utf-8") as file:
        json.dump({"epochs": epochs, "best_epoch": best}, file)


def sasrec(settings: dict[str, Any]) -> SASRecModel:
    """An untrained model."""
    seed_everything(settings["seed"])
    return SASRecModel(
        n_factors=settings["factors"],
        n_blocks=settings["blocks"],
        n_heads=settings["heads"],
        session_max_len=settings["length"],
        dropout_rate=settings["dropout"],
        batch_size=settings["batch_size"],
        epochs=1,
        loss="softmax",
        deterministic=True,
        verbose=0,
    )


def dataset(events: pd.DataFrame) -> Dataset:
    """The events as RecTools takes them; the place within the user stands for the time."""
    return Dataset.construct(
        pd.DataFrame(
            {
                "user_id": events["user"],
                "item_id": events["item"],
                "weight": 1.0,
                "datetime": pd.Timestamp("2020-01-01") + pd.to_timedelta(events["place"], unit="s"),
            }
        )
    )


def answers(model: SASRecModel, history: pd.DataFrame, users: Any, settings: dict[str, Any]) -> pd.DataFrame:
    """user_id, item_id, score, rank of the k best for those users who have a history; the others have no rows."""
    known = pd.unique(history.loc[history["user"].isin(users), "user"])
    lists: pd.DataFrame = model.recommend(
        users=known,
        dataset=dataset(history),
        k=settings["k"],
        filter_viewed=settings["filter_seen"],
        on_unsupported_targets="warn",
    )
    return lists


if __name__ == "__main__":
    main()
