"""The peer of ``bench.recovery``: ``transformers.Trainer`` on the same model and the same machine.

``python -m bench.peer_trainer MODEL FOLDER prepare`` trains a few steps and saves; ``... resume`` resumes from that and
prints a line when the next step is done.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

SAVED_STEPS = 4
ROWS, TOKENS = 16, 64


class _Rows(torch.utils.data.Dataset):
    """Rows of one length, the same in each run."""

    def __len__(self) -> int:
        return ROWS * 100

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(0, 256, (TOKENS,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}


class _AfterOneStep(TrainerCallback):
    def on_step_end(self, _args, state, control, **_):
        print("step", state.global_step, flush=True)
        control.should_training_stop = True


def main(model: str, folder: Path, what: str) -> None:
    resumes = what == "resume"
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=ROWS, max_steps=100 if resumes else SAVED_STEPS,
        save_steps=SAVED_STEPS, save_strategy="no" if resumes else "steps", use_cpu=True, report_to=[],
        disable_tqdm=True, logging_strategy="no")
    trainer = Trainer(model=AutoModelForCausalLM.from_pretrained(model), args=arguments, train_dataset=_Rows(),
                      callbacks=[_AfterOneStep()] if resumes else [])
    trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{SAVED_STEPS}") if resumes else None)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
