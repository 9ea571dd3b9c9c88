"""RecTools' `recommend` for every user of exported events; run by `bench/recommend.py` in an environment of its own.

    python rectools_recommend.py EVENTS.csv RESULT.json '{"factors": 64, "k": 10, ...}'

EVENTS.csv has user, item, place (order within the user), split (0 train, 1 validation, 2 test). Weights do not change
the speed, so it is trained on a few batches only; width, depth, heads, length are those of txrec's model.
"""

import json
import sys
import time

import pandas as pd
import torch
from pytorch_lightning import Trainer
from rectools.dataset import Dataset
from rectools.models import SASRecModel

TRAINED_BATCHES = 2
RUNS = 2


def main() -> None:
    events_path, result_path, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    torch.set_num_threads(settings["threads"])
    events = pd.read_csv(events_path)
    dataset = Dataset.construct(
        pd.DataFrame(
            {
                "user_id": events["user"],
                "item_id": events["item"],
                "weight": 1.0,
                "datetime": pd.Timestamp("2020-01-01") + pd.to_timedelta(events["place"], unit="s"),
            }
        )
    )
    model = SASRecModel(
        n_factors=settings["factors"],
        n_blocks=settings["blocks"],
        n_heads=settings["heads"],
        session_max_len=settings["length"],
        batch_size=128,
        epochs=1,
        dataloader_num_workers=0,
        verbose=0,
        get_trainer_func=_short_trainer,
    )
    model.fit(dataset)
    users = dataset.user_id_map.external_ids
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        slates = model.recommend(users=users, dataset=dataset, k=settings["k"], filter_viewed=True)
        seconds.append(time.perf_counter() - started)
    assert slates["user_id"].nunique() == len(users)
    with open(result_path, "w", encoding="utf-8") as file:
        json.dump({"users": len(users), "users_per_s": len(users) / min(seconds), "seconds": seconds}, file)


def _short_trainer() -> Trainer:
    return Trainer(
        max_epochs=1,
        limit_train_batches=TRAINED_BATCHES,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


if __name__ == "__main__":
    main()
