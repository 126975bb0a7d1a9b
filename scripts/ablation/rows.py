"""The rows of the ablation: TextRefiner as it is, with one part changed, and without it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

FULL, PLAIN, OWN = "full", "plain", "own-schedule"
# The defaults of the full method (trainers/settings.py, which imports torch).
ALPHA = 0.2
REG_WEIGHT = {"TEXTREFINER": 20.0, "PROMPTKD": 0.02}


@dataclass(frozen=True)
class Variant:
    """One row. ``label`` may name the learner as {learner}.

    settings: keys of TRAINER.TEXTREFINER that differ from the full method.
    reg_factor: multiplies REG_WEIGHT, which a learner may have in its own section.
    model: refined; plain, the learner alone with the config of the refined one; or own, the
        learner alone with the config of its own protocol.
    """

    label: str
    settings: Mapping[str, str] = field(default_factory=dict)
    reg_factor: float = 1.0
    model: Literal["refined", "plain", "own"] = "refined"

    def options(self, config_node: str) -> dict[str, str]:
        """Return the KEY VALUE pairs of the row for a learner with this section of TRAINER."""
        pairs = {f"TRAINER.TEXTREFINER.{key}": value for key, value in self.settings.items()}
        if self.reg_factor != 1:
            owner = config_node if config_node in REG_WEIGHT else "TEXTREFINER"
            weight = REG_WEIGHT[owner] * self.reg_factor
            pairs[f"TRAINER.{owner}.REG_WEIGHT"] = f"{weight:g}"
        return pairs


def _values(slug: str, label: str, key: str, values: Sequence[str]) -> dict[str, Variant]:
    return {f"{slug}-{value}": Variant(f"{label} {value}", {key: value}) for value in values}


_OFF = {"CACHE": "False", "LOCAL": "False"}
_W1 = {"AGGREGATE": "text", **_OFF}
_ALPHAS = ("0.05", "0.1", "0.5", "1.0")
ROWS = {
    OWN: Variant("plain {learner}, config of its own protocol", model="own"),
    PLAIN: Variant("plain {learner}", model="plain"),
    FULL: Variant("full (cache size 25, alpha 0.2, momentum 0.8, top-k 5)"),
    "no-cache": Variant("no cache", {"CACHE": "False"}),
    "no-local": Variant("no local loss", {"LOCAL": "False"}),
    "no-reg": Variant("no regularizer", {"REG": "False"}),
    "aggregation-only": Variant("aggregation only (no cache, no local loss)", _OFF),
    "alpha-0": Variant("alpha 0 (the prompts are not refined)", {"ALPHA": "0.0"}),
    "w1": Variant("W1 alone (d -> d; no cache, no local loss)", _W1),
    **{
        f"w1-rank-{rank}": Variant(f"W1 alone, rank {rank}", {**_W1, "RANK": rank})
        for rank in ("1", "4", "16")
    },
    "w2": Variant("W2 alone (the read alone)", {"AGGREGATE": "read"}),
    "zero-start": Variant("W starts at zero", {"ZERO_START": "True"}),
    "read-mean": Variant("read fixed to its mean over the classes", {"READ": "mean"}),
    "read-shuffled": Variant("read of another class", {"READ": "shuffled"}),
    "random-cache": Variant("cache frozen at its random start (momentum 1)", {"MOMENTUM": "1.0"}),
    **_values("read-scale", "read scale", "READ_SCALE", ("10", "30", "100")),
    "renormalized": Variant("T' re-normalized", {"RENORMALIZE": "True"}),
    "frozen-h": Variant("h frozen", {"FREEZE_ALIGN": "True"}),
    "local-on-g": Variant("local loss on g in the place of S", {"LOCAL_ON": "global"}),
    **_values("cache-size", "cache size", "CACHE_SIZE", ("1", "5", "50", "100")),
    **_values("alpha", "alpha", "ALPHA", _ALPHAS),
    **{
        f"alpha-{value}-reg-fixed": Variant(
            f"alpha {value}, alpha x REG_WEIGHT as in the full method",
            {"ALPHA": value},
            reg_factor=ALPHA / float(value),
        )
        for value in _ALPHAS
    },
    **_values("momentum", "momentum", "MOMENTUM", ("0.0", "0.5", "0.95", "0.99")),
    **_values("top-k", "top-k", "TOPK", ("1", "3", "10", "20")),
}
# (what, the row with it, the row without it)
QUESTIONS = (
    ("all of TextRefiner", FULL, PLAIN),
    ("aggregation and regularizer alone", "aggregation-only", PLAIN),
    ("W1 alone", "w1", PLAIN),
    ("the cache", FULL, "no-cache"),
    ("the local loss", FULL, "no-local"),
    ("cache and local loss together", FULL, "aggregation-only"),
    ("all but W1", FULL, "w1"),
    ("the regularizer", FULL, "no-reg"),
    ("a read that depends on the class", FULL, "read-mean"),
    ("the read of the right class", FULL, "read-shuffled"),
    ("what the cache has learned", FULL, "random-cache"),
    ("training h", FULL, "frozen-h"),
    ("local tokens in the local loss", FULL, "local-on-g"),
    ("the refined config's schedule, without TextRefiner", PLAIN, OWN),
)
