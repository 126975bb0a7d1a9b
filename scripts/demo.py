"""Compare methods on Critters, base to new classes: `make demo` and `make demo-all`.

    python scripts/demo.py            # zero-shot CLIP, CoOp and CoOp + TextRefiner: 5 minutes
    python scripts/demo.py --all      # every method, plain and refined: 25 minutes
    OUTPUT=/tmp/out python scripts/demo.py

The times are those of two CPU cores. Trains and tests with three seeds on Critters, a synthetic
dataset generated in $DATA (default data/), and a small CLIP pre-trained on it. Results, logs
and checkpoints are written to $OUTPUT/demo or $OUTPUT/demo-all (default output/). Finished jobs are
skipped when it is run again.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dassl.utils.arguments import Parser  # noqa: E402
from dassl.utils.failures import run_program  # noqa: E402
from scripts.runner import demo  # noqa: E402
from scripts.runner.demo import Demo, Method  # noqa: E402

ZERO_SHOT = Method("zero-shot CLIP", "coop", "zeroshot", seeds=(1,))  # the same for every seed
COOP = Method("CoOp", "coop")
TEXTREFINER = Method("CoOp + TextRefiner", "textrefiner")
AGGREGATION = Method(
    "aggregation only (no cache, no local loss)",
    "textrefiner",
    options={"TRAINER.TEXTREFINER.CACHE": "False", "TRAINER.TEXTREFINER.LOCAL": "False"},
    subfolder="aggregation_only",
)

SHORT = Demo("demo", [[ZERO_SHOT], [COOP], [TEXTREFINER], [AGGREGATION]])

# PromptKD's own protocol shows it unlabeled images of all classes including the new ones, and its
# numbers then belong to another table. Here it sees what the other rows see, for as many epochs as
# CoOp, in batches of its public config.
SAME_IMAGES = {
    "DATASET.DISTILL_ON": "few_shot",
    "OPTIM.MAX_EPOCH": "20",
    "DATALOADER.TRAIN_X.BATCH_SIZE": "8",
    "TEST.FINAL_MODEL": "last_step",
    "TEST.SELECT_ON_TEST": "False",
}
OWN_PROTOCOL = "PromptKD by its own protocol"


def few_shot(label: str, method: str) -> Method:
    """Return a row of the table of all classes, which parameters of single classes need."""
    return Method(label, method, "fewshot", shots=(16,), classes=("all",))


ALL = Demo(
    "demo-all",
    [
        *SHORT.groups,
        [Method("CoCoOp", "cocoop")],
        [Method("CoCoOp + TextRefiner", "textrefiner-cocoop")],
        [Method("KgCoOp", "kgcoop")],
        [Method("KgCoOp + TextRefiner", "textrefiner-kgcoop")],
        [Method("TCP", "tcp")],
        [Method("TCP + TextRefiner", "textrefiner-tcp")],
        [Method("ATPrompt", "atprompt")],
        [Method("ATPrompt + TextRefiner", "textrefiner-atprompt")],
        [Method("CLIPAdapter", "clipadapter")],
        [Method("CLIPAdapter + TextRefiner", "textrefiner-clipadapter")],
        [Method("MaPLe", "maple")],
        [Method("MaPLe + TextRefiner", "textrefiner-maple")],
        [Method("PromptSRC", "promptsrc")],
        [Method("PromptSRC + TextRefiner", "textrefiner-promptsrc")],
        [Method("MMRL", "mmrl")],
        [Method("MMRL + TextRefiner", "textrefiner-mmrl")],
        [
            Method("PromptKD's teacher", "promptsrc", "teacher", seeds=(1,), in_table=False),
            Method("PromptKD", "promptkd", options=SAME_IMAGES, shots=(16,)),
            Method(
                "PromptKD + TextRefiner", "textrefiner-promptkd", options=SAME_IMAGES, shots=(16,)
            ),
            Method(
                "PromptKD, all images", "promptkd", subfolder="own_protocol", apart=OWN_PROTOCOL
            ),
            Method(
                "PromptKD + TextRefiner, 16 images of each class",
                "textrefiner-promptkd",
                subfolder="own_protocol",
                apart=OWN_PROTOCOL,
            ),
        ],
        [Method("zero-shot CLIP", "coop", "zeroshot", seeds=(1,), classes=("all",))],
        [few_shot("CoOp", "coop")],
        [few_shot("CoOp + TextRefiner", "textrefiner")],
        [few_shot("TaskRes", "taskres")],
        [few_shot("TaskRes + TextRefiner", "textrefiner-taskres")],
    ],
    remark="""\
Every trained row of the table of base and new classes saw the same images: 16 of each base class,
drawn by the seed, and none of a new class. PromptKD and PromptKD + TextRefiner saw them without
labels (DATASET.DISTILL_ON few_shot); their teacher, PromptSRC on a larger CLIP (critters-vit-s),
saw those of seed 1 with labels and teaches all seeds. In the tables of PromptKD's own protocol
(DISTILL_ON all) students see unlabeled images of all classes, the new ones included, as in the
papers: all training images without TextRefiner, 16 of each class with it. Those numbers do not
belong beside the others. In the table of all classes, 16 images of each class are seen with labels:
TaskRes has parameters for each class, which cannot classify new ones.
""",
)


def main(words: Sequence[str], env: Mapping[str, str]) -> int:
    """Run the command line and return its exit code; $DATA and $OUTPUT choose the folders."""
    parser = Parser(__doc__)
    parser.add_argument("--all", action="store_true", help="every method, plain and refined")

    def command() -> int:
        chosen = ALL if parser.parse_args(words).all else SHORT
        return demo.main(chosen, env)

    return run_program(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
