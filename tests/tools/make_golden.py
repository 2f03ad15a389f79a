#!/usr/bin/env python3
"""Write the synthetic models of a golden index and check the sha256 of every model in it.

usage: make_golden.py INDEX.json MODELS_DIR OUT_DIR

Exits with 77 when the synthetic models cannot be made because numpy is missing.
"""
import hashlib
import importlib.util
import json
import os
import subprocess
import sys


def check(path, expected):
    with open(path, "rb") as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if found != expected:
        sys.exit(f"{path}: sha256 is {found}, the reference logits are of {expected}")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    index, models, out = sys.argv[1:]
    with open(index, encoding="utf-8") as file:
        cases = json.load(file)
    has_numpy = importlib.util.find_spec("numpy") is not None
    synth = os.path.join(os.path.dirname(os.path.abspath(__file__)), "synth_gguf.py")
    os.makedirs(out, exist_ok=True)
    for case in cases:
        if "synth" not in case:
            check(os.path.join(models, case["model"]), case["sha256"])
            continue
        path = os.path.join(out, case["model"])
        if os.path.exists(path):  # of an earlier run, perhaps with other options
            os.remove(path)
        if has_numpy:
            command = [sys.executable, synth, "tiny", path + ".part", *case["synth"].split()]
            subprocess.run(command, check=True)
            check(path + ".part", case["sha256"])
            os.rename(path + ".part", path)
    if not has_numpy:
        print("python3 has no numpy: the synthetic models are missing")
        sys.exit(77)


main()
