#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.13.0: a Trainer that resumes from the checkpoint of its last step trains one more.
#
# Seen: `max_steps=4`, `save_steps=2`; a second run with `resume_from_checkpoint` at checkpoint-4 ends with
# `global_step` 5 of 4, and with a constant learning rate its weights differ from those that were saved. Who is killed
# between the last checkpoint and `save_model` gets another model than who is not. The linear schedule hides it from the
# weights, as its rate is 0 by then; a look at `trainer_state.json` before training tells.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 accelerate==1.15.0 2>/dev/null
cat > "$folder/resume.py" <<'PYTHON'
import sys

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def trainer() -> Trainer:
    torch.manual_seed(0)
    rows = [{"input_ids": [2, 5 + n % 9, 3], "attention_mask": [1, 1, 1], "labels": n % 2} for n in range(64)]
    options = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 4, "lr_scheduler_type": "constant"}
    settings = TrainingArguments(sys.argv[1], use_cpu=True, report_to=[], disable_tqdm=True, **options)
    return Trainer(BertForSequenceClassification(BertConfig(vocab_size=50, **SIZE)), settings, train_dataset=rows)


once, again = trainer(), trainer()
once.train()
again.train(resume_from_checkpoint=f"{sys.argv[1]}/checkpoint-4")
equal = torch.equal(once.model.classifier.weight, again.model.classifier.weight)
print(f"steps {once.state.global_step}, resumed at the end {again.state.global_step}, same weights {equal}")
PYTHON
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/resume.py" "$folder/out" 2> "$folder/error" | tail -1 | tee "$folder/said"
grep -qxF 'steps 4, resumed at the end 5, same weights False' "$folder/said" || { cat "$folder/error"; echo "changed: it stops at its last step now"; exit 1; }
echo "transformers 5.23.0: resumed from the checkpoint of its last step, a Trainer takes a step more"
