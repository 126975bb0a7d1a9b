"""Pre-train a small CLIP on Critters images and captions and write it to assets/critters/.

    python -m assets.critters.pretrain                                  # about 45 minutes, 2 cores
    python -m assets.critters.pretrain --steps 20 --images 1000 --name try --assets /tmp/try

The contrastive loss is supported by two auxiliary losses: attributes predicted from the pooled
feature (faded out) and visible parts predicted from every patch token. A step depends only on its
number, the seed and the weights. An interrupted run resumes from its last checkpoint. A finished
run can be extended with a larger --steps; its learning rate then follows the longer schedule.
"""

import argparse
import datetime
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from assets.critters.captions import FACTS, Vocabulary
from assets.critters.encoders import encode_image, encode_text, initialize
from assets.critters.losses import UNKNOWN, Heads, contrastive_loss
from assets.critters.pool import GRID, SIZE, Pool, make_pool, open_pool
from assets.critters.zeroshot import PROMPT, accuracy_by_style, normalize
from clip.model import CLIP
from dassl.utils import UsageError, atomic_path
from datasets.critters_world import SPECIES

# Settings that determine the weights: default and help text.
_RECIPE: dict[str, tuple[float | str, str]] = {
    "steps": (4000, "number of training batches"),
    "batch": (256, "images per batch"),
    "lr": (1.5e-3, "peak learning rate"),
    "seed": (1, "seed of the weights and the order of images"),
    "images": (160_000, "number of images to render"),
    "dim": (128, "width of the joint space"),
    "vision_width": (128, "width of the image encoder, a multiple of 64"),
    "vision_layers": (4, "layers of the image encoder"),
    "text_width": (64, "width of the text encoder, a multiple of 64"),
    "text_layers": (2, "layers of the text encoder"),
    "color_jitter": (0.0, "probability that the hue of an image is rotated by a random angle"),
    "start": ("", "a model of --assets to grow from: further layers start as the identity"),
}
Settings = dict[str, Any]  # by name of _RECIPE
ASSETS = Path(__file__).parent
COLOR = list(FACTS).index("color")
RESIDUAL = ("out_proj.weight", "out_proj.bias", "c_proj.weight", "c_proj.bias")
_FULL_VOCABULARY = 49408  # rows of the token embedding that `clip` restores on loading
_POOL_SEED = 1
_WARM_UP = 200  # steps
_FADE = 0.6  # share of the steps over which the attribute loss fades out
_MAX_LOGIT_SCALE = math.log(50)


class Trainer:
    """Training loop with checkpoints and evaluation; `settings` determine the weights."""

    def __init__(self, settings: Settings, pool: Pool, assets: Path = ASSETS) -> None:
        self.settings, self.pool = settings, pool
        self.steps, self.seed = int(settings["steps"]), int(settings["seed"])
        self.vocabulary = Vocabulary()
        longest = int((pool.tokens[:] != 0).sum(-1).max())
        tokens = np.array(pool.tokens[..., :longest])
        self.tokens = self.vocabulary.rows(torch.from_numpy(tokens).long())  # (N, K, longest)
        self.model, self.heads = build(settings, len(self.vocabulary))
        if settings["start"]:
            grow(self.model, assets / f"{settings['start']}.safetensors", self.vocabulary)
        self.modules = nn.ModuleDict({"model": self.model, "heads": self.heads})
        self.optimizer = build_optimizer(self.modules)
        self.step = 0
        self.seconds = 0.0  # training time, summed over interruptions
        self.stages = [self.steps]  # number of steps of each successive schedule

    def run_step(self) -> dict[str, float]:
        """Train on one batch and return the losses by name."""
        pool = self.pool
        rows = batch_rows(self.step, int(self.settings["batch"]), len(pool.training), self.seed)
        rng = np.random.RandomState([self.seed, self.step, 1])
        pick = rng.randint(self.tokens.shape[1], size=len(rows))  # one caption per image
        images, parts = pool.images[rows], pool.parts[rows]
        if rng.rand() < 0.5:
            images, parts = images[:, :, ::-1], parts[..., ::-1]
        labels = torch.from_numpy(pool.labels[rows]).long()
        jitter = rng.rand(len(rows)) < self.settings["color_jitter"]
        if jitter.any():
            pick, jitter = pick_without_color(pool.mentions[rows], pick, jitter)
            images = rotate_hue(images, np.where(jitter, rng.uniform(0, 2 * np.pi, len(rows)), 0))
            labels[torch.from_numpy(jitter), COLOR] = UNKNOWN
        targets = torch.from_numpy(np.ascontiguousarray(parts)).long().flatten(2)
        mentions = torch.from_numpy(pool.mentions[rows, pick])

        with torch.autocast("cpu", torch.bfloat16):
            pooled, patches = encode_image(self.model, normalize(images))
            text = encode_text(self.model, self.tokens[rows, pick])
            losses = {"part": self.heads.part_loss(patches, targets)}
        scale = self.model.logit_scale.exp()
        losses["pair"] = contrastive_loss(pooled.float(), text.float(), scale, labels, mentions)
        losses["attribute"] = self.heads.attribute_loss(pooled.float(), labels)
        fade = max(0.0, 1 - self.step / (_FADE * self.steps))
        loss = losses["pair"] + losses["part"] + fade * losses["attribute"]
        if not torch.isfinite(loss):
            raise UsageError(f"the loss is {loss.item()} at step {self.step}: use a smaller --lr")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps, self.settings["lr"])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, _MAX_LOGIT_SCALE)
        self.step += 1
        return {name: loss.item() for name, loss in losses.items()}

    def train(self, checkpoint: Path, save_every: int) -> None:
        """Train to the last step; save a checkpoint and evaluate every `save_every` steps."""
        with tqdm(
            total=self.steps, initial=self.step, unit="step", dynamic_ncols=True, mininterval=5
        ) as bar:
            while self.step < self.steps:
                start = time.perf_counter()
                losses = self.run_step()
                self.seconds += time.perf_counter() - start
                bar.update()
                if self.step % 10 == 0:
                    bar.set_postfix({name: f"{loss:.3f}" for name, loss in losses.items()})
                if self.step % save_every == 0 or self.step == self.steps:
                    self.save(checkpoint)
                    tqdm.write(f"step {self.step} held-out accuracy: {json.dumps(self.evaluate())}")

    def save(self, path: Path) -> None:
        """Save a checkpoint."""
        state = {name: getattr(self, name) for name in ("step", "seconds", "settings", "stages")}
        state |= {name: getattr(self, name).state_dict() for name in ("modules", "optimizer")}
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path) -> None:
        """Resume from a checkpoint of this run, or extend a finished run of fewer steps.

        Other settings, or an unfinished shorter run, raise a UsageError.
        """
        state = torch.load(path, weights_only=True)
        shorter = state["settings"] | {"steps": self.steps} == self.settings
        at_end = state["step"] == state["settings"]["steps"] < self.steps
        if state["settings"] != self.settings and not (shorter and at_end):
            raise UsageError(
                f"{path} belongs to a run with the settings {state['settings']} at step "
                f"{state['step']}, not {self.settings}: delete it, or choose another --pool"
            )
        self.stages = state["stages"]
        if self.stages[-1] != self.steps:
            self.stages.append(self.steps)
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        print(f"resuming from step {self.step} of {path}")

    def report(self) -> dict[str, Any]:
        """Round the model to fp16, as it is exported; return its recipe and accuracy."""
        state = self.model.state_dict()
        self.model.load_state_dict({name: value.half() for name, value in state.items()})
        return {
            "recipe": self.settings,
            "stages": self.stages,
            "samples": self.steps * int(self.settings["batch"]),
            "optimizer": f"AdamW, weight decay 0.05, warm-up {_WARM_UP} steps, cosine",
            "minutes": round(self.seconds / 60, 1),
            "threads": torch.get_num_threads(),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "vocabulary_rows": len(self.vocabulary),
            "zero_shot_percent": self.evaluate(),
            "zero_shot_protocol": f"{len(SPECIES)} species, {PROMPT!r}, per style, "
            f"{len(self.pool.held_out)} held-out pictures of pre-training's world",
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the 72-way zero-shot accuracy on the pool's held-out images, in percent."""
        return accuracy_by_style(
            lambda images: encode_image(self.model, images)[0],
            lambda tokens: encode_text(self.model, self.vocabulary.rows(tokens)),
            self.pool.images[self.pool.held_out],
            self.pool.labels[self.pool.held_out],
        )

    def export(self, folder: Path, name: str, recipe: dict[str, Any]) -> None:
        """Write NAME.safetensors in fp16 without unused token rows, and NAME.json."""
        state = {key: value.half().contiguous() for key, value in self.model.state_dict().items()}
        state["token_embedding.rows"] = self.vocabulary.ids.to(torch.int32)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        libraries = {"torch": str(torch.__version__), "numpy": np.__version__}
        versions = {"python": platform.python_version(), **libraries}
        record = {"name": name, **recipe, "date": today, "versions": versions}
        with atomic_path(folder / f"{name}.safetensors") as path:
            save_file(state, path, metadata={"vocab_size": str(_FULL_VOCABULARY)})
        with atomic_path(folder / f"{name}.json") as path:
            path.write_text(json.dumps(record, indent=2) + "\n")


def build(settings: Settings, vocabulary: int) -> tuple[CLIP, Heads]:
    """Build and initialize CLIP and the auxiliary heads."""
    sizes = {name: int(value) for name, value in settings.items() if name != "start"}
    for name in ("vision_width", "text_width"):
        if sizes[name] < 64 or sizes[name] % 64:
            raise UsageError(f"{name} is {sizes[name]}: it must be a positive multiple of 64")
    model = CLIP(
        embed_dim=sizes["dim"],
        image_resolution=SIZE,
        vision_layers=sizes["vision_layers"],
        vision_width=sizes["vision_width"],
        vision_patch_size=SIZE // GRID,
        context_length=77,
        vocab_size=vocabulary,
        transformer_width=sizes["text_width"],
        transformer_heads=sizes["text_width"] // 64,
        transformer_layers=sizes["text_layers"],
    )
    torch.manual_seed(sizes["seed"])
    heads = Heads(sizes["dim"], sizes["vision_width"])
    initialize(model)
    return model, heads


@torch.no_grad()
def grow(model: CLIP, path: Path, vocabulary: Vocabulary) -> None:
    """Load a model with the same widths and fewer layers; further layers start as the identity.

    Raises UsageError if there is no such model, or its widths or its vocabulary are others.
    """
    if not path.is_file():
        raise UsageError(
            f"there is no model {path} to start from: give the name of one in --assets"
        )
    known = load_file(path)
    rows = known.pop("token_embedding.rows").long()
    own = model.state_dict()
    other = [name for name in known if name not in own or own[name].shape != known[name].shape]
    if other or not torch.equal(rows, vocabulary.ids):
        raise UsageError(
            f"{path} cannot be grown to this model, which differs in "
            f"{other[0] if other else 'its vocabulary'}: choose the same widths and "
            "vocabulary, and at least as many layers"
        )
    model.load_state_dict(known, strict=False)
    for name, parameter in model.named_parameters():
        if name not in known and name.endswith(RESIDUAL):
            parameter.zero_()


def rotate_hue(images: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return images (B, S, S, 3) uint8 with their colors rotated about gray by angles (B,)."""
    cos, rest = np.cos(angles)[:, None, None], (1 - np.cos(angles))[:, None, None] / 3
    sin = np.sin(angles)[:, None, None] / np.sqrt(3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    rotation = cos * np.eye(3) + rest * np.ones((3, 3)) + sin * cross  # Rodrigues' formula
    pixels = images.reshape(len(images), -1, 3).astype(np.float32)
    rotated = pixels @ rotation.astype(np.float32).transpose(0, 2, 1)
    return rotated.round().clip(0, 255).astype(np.uint8).reshape(images.shape)


def pick_without_color(
    mentions: np.ndarray, pick: np.ndarray, jitter: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Replace picked captions (B,) of jittered images by ones that do not mention the color.

    ``mentions`` are (B, K, 8). An image whose K captions all mention it keeps its color. Returns
    the captions and the images (B,) that remain jittered.
    """
    silent = ~mentions[..., COLOR]
    jitter = jitter & silent.any(1)
    # The next such caption, starting at the one picked at random.
    order = (pick[:, None] + np.arange(silent.shape[1])) % silent.shape[1]
    first = np.take_along_axis(silent, order, 1).argmax(1)
    return np.where(jitter, order[np.arange(len(pick)), first], pick), jitter


def build_optimizer(modules: nn.Module) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices, but not on embeddings and vectors."""
    named = list(modules.named_parameters())
    decayed = [p for name, p in named if p.ndim >= 2 and "embedding" not in name]
    others = [p for name, p in named if p.ndim < 2 or "embedding" in name]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the rate at a step: linear warm-up and half a cosine down to 2 % of the peak."""
    warm = min(1.0, (step + 1) / _WARM_UP)
    return peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def batch_rows(step: int, size: int, items: int, seed: int) -> np.ndarray:
    """Return the pool rows of a step; every epoch is a new permutation of all rows."""
    epoch, batch = divmod(step, items // size)
    order = np.random.RandomState([seed, epoch]).permutation(items)
    return np.sort(order[batch * size : (batch + 1) * size])


def parse(arguments: list[str] | None = None) -> tuple[argparse.Namespace, Settings]:
    """Parse the command line; return all arguments, and the settings that determine the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    for name, (default, meaning) in _RECIPE.items():
        add("--" + name.replace("_", "-"), type=type(default), default=default, help=meaning)
    pool = Path(__file__).parents[2] / "data" / "critters-pool"
    add("--name", default="critters-vit-t", help="name of the model files")
    add("--assets", type=Path, default=ASSETS, help="folder of the models, also the new one")
    add("--pool", type=Path, default=pool, help="folder of rendered images and checkpoints")
    add("--threads", type=int, default=2, help="CPU threads and rendering processes")
    add("--save-every", type=int, default=250, help="steps between checkpoints")
    args = parser.parse_args(arguments)
    return args, {name: getattr(args, name) for name in _RECIPE}


def main(arguments: list[str] | None = None) -> None:
    """Pre-train, export and print the recipe."""
    args, settings = parse(arguments)
    torch.set_num_threads(args.threads)
    make_pool(args.pool, args.images, _POOL_SEED, args.threads)
    trainer = Trainer(settings, open_pool(args.pool), args.assets)
    checkpoint = args.pool / f"{args.name}.pt"
    if checkpoint.exists():
        trainer.resume(checkpoint)
    trainer.train(checkpoint, args.save_every)
    commands = []
    for steps in trainer.stages:
        options = {"name": args.name, **settings, "steps": steps}.items()
        flags = [f"--{key.replace('_', '-')} {value}" for key, value in options if value != ""]
        commands.append(" ".join(["python -m assets.critters.pretrain", *flags]))
    recipe = {"command": " && ".join(commands), **trainer.report()}
    trainer.export(args.assets, args.name, recipe)
    print(json.dumps(recipe, indent=2))


if __name__ == "__main__":
    main()
