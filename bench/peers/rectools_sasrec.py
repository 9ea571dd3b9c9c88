"""RecTools' SASRecModel on exported events; run by `bench/train.py` in an environment of its own.

    python rectools_sasrec.py EVENTS.csv RESULT.json '{"epochs": 2, "factors": 64, ...}'

EVENTS.csv has user, item, place (order within the user), split (0 train, 1 validation, 2 test). Training sees split 0,
recommendations for validation see split 0. Its settings are its own defaults (full softmax) except for width, depth,
heads, length, dropout and batch size, which are set equal.
"""

import json
import sys
import time

import numpy as np
import pandas as pd
import torch
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools_lists import dataset


def main() -> None:
    events_path, result_path, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    torch.set_num_threads(settings["threads"])
    events = pd.read_csv(events_path)
    train = events[events["split"] == 0]
    data = dataset(train)
    model = SASRecModel(
        n_factors=settings["factors"],
        n_blocks=settings["blocks"],
        n_heads=settings["heads"],
        session_max_len=settings["length"],
        dropout_rate=settings["dropout"],
        batch_size=settings["batch_size"],
        epochs=1,
        loss="softmax",
        lr=1e-3,
        deterministic=True,
        dataloader_num_workers=0,
        verbose=0,
    )
    lengths = train.groupby("user").size()
    tokens = int((lengths.clip(upper=settings["length"] + 1) - 1).sum())
    seconds, epochs = 0.0, []
    for epoch in range(1, settings["epochs"] + 1):
        started = time.perf_counter()
        model.fit_partial(data, min_epochs=1, max_epochs=1)
        seconds += time.perf_counter() - started
        ndcg = validation_ndcg(model, data, events) if epoch % settings["validate_every"] == 0 else None
        epochs.append({"epoch": epoch, "seconds": seconds, "tokens_per_s": tokens * epoch / seconds, "ndcg@10": ndcg})
        print(json.dumps(epochs[-1]), flush=True)
        with open(result_path, "w", encoding="utf-8") as file:
            json.dump(epochs, file)
        if ndcg is not None and ndcg >= settings["target"]:
            break


def validation_ndcg(model: SASRecModel, data: Dataset, events: pd.DataFrame) -> float:
    """NDCG@10 of the one right item of every user, the whole catalogue ranked, seen items left out."""
    truth = events[events["split"] == 1].drop_duplicates("user").set_index("user")["item"]
    users = np.intersect1d(truth.index.to_numpy(), data.user_id_map.external_ids)
    slates = model.recommend(users=users, dataset=data, k=10, filter_viewed=True)
    hits = slates[slates["item_id"].to_numpy() == truth.loc[slates["user_id"]].to_numpy()]
    return float((1 / np.log2(hits["rank"] + 1)).sum() / len(truth))


if __name__ == "__main__":
    main()
