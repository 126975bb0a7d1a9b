"""What each setting of the trainers may be: type, allowed values and meaning.

A row has the fields of the rows in this project's dassl/config/table.py, which a CoOp checkout
does not have. scripts/ loads this file on its own, so it imports neither torch nor other files of
this folder.
"""

from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta

MANY = 1_000_000  # the bound of numbers that have no smaller natural one
PRECISIONS = ("fp32", "amp", "bf16", "fp16")
MODALS = ("base2novel", "cross")


class Row(NamedTuple):
    """One setting: the type that `msgspec.convert` checks, its description, and its meaning."""

    kind: Any
    allowed: str
    meaning: str
    names: tuple[str, ...] = ()  # the allowed words, to suggest the nearest one


def whole(low: int, high: int, meaning: str) -> Row:
    """Return a row for an integer from ``low`` to ``high``."""
    kind = Annotated[int, Meta(ge=low, le=high)]
    allowed = f"a whole number from {low:,} to {high:,}" if low < high else f"{low}"
    return Row(kind, allowed, meaning)


def number(low: float, high: float, meaning: str) -> Row:
    """Return a row for a finite number from ``low`` to ``high``."""
    kind = Annotated[float, Meta(ge=low, le=high)]
    allowed = f"a finite number in [{low:,}, {high:,}]" if low < high else f"{low}"
    return Row(kind, allowed, meaning)


def positive(meaning: str) -> Row:
    """Return a row for a finite number above 0."""
    kind = Annotated[float, Meta(gt=0, le=MANY)]
    return Row(kind, f"a finite number > 0 and at most {MANY:,}", meaning)


def choice(names: tuple[str, ...], meaning: str) -> Row:
    """Return a row for one of some words."""
    named = ", ".join(name or "empty" for name in names)
    return Row(Literal.__getitem__(names), f"one of {named}", meaning, names)


def optional(row: Row) -> Row:
    """Return ``row`` for a setting that may also be None, which means that it is not given."""
    return row._replace(kind=row.kind | None, allowed=f"{row.allowed}, or None")


def flag(meaning: str) -> Row:
    """Return a row for a switch."""
    return Row(bool, "True or False", meaning)


def blocks(meaning: str) -> Row:
    """Return a row for a list of different blocks of an encoder, in ascending order."""
    kind = Annotated[list[Annotated[int, Meta(ge=1, le=1000)]], Meta(min_length=1)]
    return Row(kind, "a list of whole numbers from 1 to 1,000", meaning)


def words(meaning: str) -> Row:
    """Return a row for a list of words that are not blank."""
    kind = Annotated[list[Annotated[str, Meta(pattern=r"[^\s_]")]], Meta(min_length=1)]
    return Row(kind, "a list of words", meaning)


def text(meaning: str) -> Row:
    """Return a row for any text."""
    return Row(str, "text", meaning)


def path(meaning: str) -> Row:
    """Return a row for the path of a file or folder."""
    return Row(str, "a path", meaning)


N_CTX = whole(1, 1000, "context tokens, if CTX_INIT is empty")
CTX_INIT = text("words that the context starts from; empty: random tokens")
PREC = choice(PRECISIONS, "precision of the encoders (docs/precision.md)")
MAX_PROMPTS = whole(0, 10**9, "images x classes in the text encoder at once; 0: TEXT_CHUNK")
SHARED = {"N_CTX": N_CTX, "CTX_INIT": CTX_INIT, "PREC": PREC, "MAX_PROMPTS": MAX_PROMPTS}
_DEEP_PROMPTS = {
    "N_CTX_VISION": whole(1, 1000, "visual prompt tokens"),
    "N_CTX_TEXT": whole(1, 1000, "context tokens"),
    "CTX_INIT": CTX_INIT,
    "PREC": PREC,
    "PROMPT_DEPTH_VISION": whole(0, 1000, "blocks of the image encoder with prompts; 0: none"),
    "PROMPT_DEPTH_TEXT": whole(1, 1000, "blocks of the text encoder with prompts"),
}
_REFINER_WEIGHT = "weight of the {loss}, relative to the objective's; 0: the loss is not computed"
LOCAL_WEIGHT = number(0, MANY, _REFINER_WEIGHT.format(loss="semantic loss on local tokens"))
REG_WEIGHT = number(0, MANY, _REFINER_WEIGHT.format(loss="regularizer"))
KG_WEIGHT = number(
    0, MANY, "weight of the distance to hand-written prompts' features; 0: it is not computed"
)
CACHE_SIZE = whole(0, MANY, "entries of the cache; 0: no cache")
ALPHA = number(-MANY, MANY, "share of the aggregated features in the refined text features")

# Section of the config -> its rows.
_SECTIONS: dict[str, dict[str, Row]] = {
    "": {"MODEL_DIR": path("folder of the model to test (--model-dir)")},
    "DATASET": {
        "SUBSAMPLE_CLASSES": choice(("all", "base", "new"), "classes to train and test on"),
        "DISTILL_ON": choice(
            ("", "few_shot", "all"), "unlabeled images of a trainer without labels (PromptKD)"
        ),
    },
    "TRAINER": {
        "COMPILE": flag("run the encoders through torch.compile"),
        "MODAL": choice(MODALS, "protocol of PromptSRC and PromptKD"),
        "TEXT_CHUNK": whole(0, 10**9, "prompts in the text encoder at once; 0: by free memory"),
    },
    "TRAINER.COOP": {
        "N_CTX": N_CTX,
        "CSC": flag("a context for each class"),
        "CTX_INIT": CTX_INIT,
        "PREC": PREC,
        "CLASS_TOKEN_POSITION": choice(("end", "middle", "front"), "place of the class name"),
    },
    "TRAINER.COCOOP": {
        **SHARED,
    },
    "TRAINER.KGCOOP": {
        "N_CTX": N_CTX,
        "CTX_INIT": CTX_INIT,
        "PREC": PREC,
        "WEIGHT": KG_WEIGHT,
    },
    "TRAINER.TCP": {
        "N_CTX": N_CTX,
        "CTX_INIT": CTX_INIT,
        "PREC": PREC,
        "WEIGHT": KG_WEIGHT,
        "LAYER": whole(
            1, 1000, "text block, from 0, with class-aware tokens in place of the context"
        ),
    },
    "TRAINER.ATPROMPT": {
        "N_CTX": whole(1, 1000, "context tokens between the last attribute and the class name"),
        "N_ATT": whole(1, 1000, "learned tokens before each attribute"),
        "ATTRIBUTES": words("attributes in each prompt (configs/protocols.yaml)"),
        "PREC": PREC,
        "WEIGHT": KG_WEIGHT,
    },
    "TRAINER.MAPLE": {
        "N_CTX": N_CTX,
        "CTX_INIT": CTX_INIT,
        "PREC": PREC,
        "PROMPT_DEPTH": whole(1, 1000, "blocks of both encoders with prompts"),
    },
    "TRAINER.PROMPTSRC": {
        **_DEEP_PROMPTS,
        "TEXT_LOSS_WEIGHT": number(0, MANY, "weight of the loss on text features"),
        "IMAGE_LOSS_WEIGHT": number(0, MANY, "weight of the loss on image features"),
        "GPA_MEAN": number(-MANY, MANY, "epoch that counts most among the aggregated prompts"),
        "GPA_STD": positive("spread of the aggregated epochs, in epochs"),
    },
    "TRAINER.MMRL": {
        "PREC": PREC,
        "N_REP_TOKENS": whole(1, 1000, "representation tokens"),
        "REP_DIM": whole(1, MANY, "width of the representation tokens"),
        "REP_LAYERS": blocks("blocks of both encoders, from 1, that get new projected tokens"),
        "SCALE": number(0, 1, "share of the class token's head; the other head has the rest"),
        "REG_WEIGHT": number(0, MANY, "weight of the distances to the frozen CLIP's features"),
    },
    "TRAINER.CLIPADAPTER": {
        "PREC": PREC,
        "REDUCTION": whole(1, MANY, "d over the hidden units of the adapter"),
        "RATIO": number(0, 1, "share of the adapter's output in the image feature"),
    },
    "TRAINER.TaskRes": {
        "PREC": PREC,
        "RESIDUAL_SCALE": positive("alpha of the text features T0 + alpha x"),
    },
    "TRAINER.PROMPTKD": {
        **_DEEP_PROMPTS,
        "TEACHER_NAME": text("CLIP of the teacher by name or path"),
        "TEACHER_WEIGHTS": path("PromptSRC's checkpoint of the teacher; empty: PromptKD's place"),
        "PROJECT_LAYER": whole(2, 2, "layers of the projector"),
        "CE_WEIGHT": number(0, 0, "weight of the loss on labels, which PromptKD does not use"),
        "KD_WEIGHT": positive("weight of the distillation loss"),
        "TEMPERATURE": positive("temperature of the distillation"),
        "LOCAL_WEIGHT": LOCAL_WEIGHT,
        "REG_WEIGHT": REG_WEIGHT,
    },
    "TRAINER.TEXTREFINER": {
        "CACHE_SIZE": CACHE_SIZE,
        "MOMENTUM": number(0, 1, "share of the old entries in an update of the cache"),
        "ALPHA": ALPHA,
        "TOPK": whole(0, MANY, "salient tokens of each image in the semantic loss"),
        "LOCAL_WEIGHT": LOCAL_WEIGHT,
        "REG_WEIGHT": REG_WEIGHT,
        "CACHE": flag("False: CACHE_SIZE 0"),
        "LOCAL": flag("False: LOCAL_WEIGHT 0"),
        "REG": flag("False: REG_WEIGHT 0"),
        # Controls (docs/method.md); the defaults are the method.
        "READ_SCALE": positive("s of the read softmax(s T A^T) A"),
        "READ": choice(
            ("each", "mean", "shuffled"),
            "read of a class: its own, the mean over all classes, or that of another class",
        ),
        "AGGREGATE": choice(
            ("both", "text", "read"), "inputs of W: T and R, T alone (W1), or R alone (W2)"
        ),
        "RANK": whole(0, MANY, "rank of W; 0: a full matrix"),
        "ZERO_START": flag("True: W (with a RANK its last layer) starts at zero"),
        "RENORMALIZE": flag("True: T' is L2-normalized, in training and at test"),
        "FREEZE_ALIGN": flag("True: h keeps its random weights"),
        "LOCAL_ON": choice(
            ("tokens", "global"),
            "rows of the semantic loss: salient tokens S, or the image feature g",
        ),
    },
    # The release's names: a value sets a key of TEXTREFINER.
    "TRAINER.TF": {
        "MEMORY_SIZE": optional(CACHE_SIZE),
        "ALPHA": optional(ALPHA),
        "BALANCE": optional(positive("divides the semantic loss: LOCAL_WEIGHT is its inverse")),
        "DISTILL": optional(REG_WEIGHT),
    },
}
ROWS = {
    f"{section}.{key}" if section else key: row
    for section, rows in _SECTIONS.items()
    for key, row in rows.items()
}
