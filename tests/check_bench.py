"""check_bench.py KIND FILE: whether a report of stoker bench is what bench/README.md promises.

KIND is a name of CHECKS below. Says what is wrong and ends with 1. Speeds are checked against
each other only, never against a machine.
"""
import csv
import json
import math
import os
import sys
import xml.etree.ElementTree

COMPONENTS = ["embedding", "attention", "kv", "router", "gate", "up", "down", "head"]
LIMITS = ["bandwidth", "cache", "disk", "barriers", "compute"]


def check(condition, what):
    if not condition:
        sys.exit(f"check_bench: {what}")


def close(a, b):
    return math.isclose(a, b, rel_tol=1e-6)


def check_result(r):
    text = {"kind": ["prompt", "decode"], "limit": LIMITS}
    for key, allowed in text.items():
        check(r.get(key) in allowed, f"{key} is {r.get(key)}")
    check(r["sequences"] >= 1 and (r["sequences"] == 1 or r["kind"] == "decode"), "sequences")
    for key in ["tokens", "depth", "threads", "peak_rss_bytes"]:
        check(type(r.get(key)) is int and r[key] >= 0, f"{key} is {r.get(key)}")
    for key in ["tokens_per_s_median", "tokens_per_s_min", "tokens_per_s_max", "bytes_per_token",
                "bandwidth_bytes_per_s", "roofline_fraction", "operations_per_s", "load_s"]:
        check(type(r.get(key)) is float and r[key] > 0 and math.isfinite(r[key]),
              f"{key} is {r.get(key)}")
    samples = sorted(r["samples"])
    check(len(samples) >= 3, "fewer than 3 samples")
    check(samples[0] == r["tokens_per_s_min"] and samples[-1] == r["tokens_per_s_max"], "min, max")
    middle = (samples[len(samples) // 2] + samples[(len(samples) - 1) // 2]) / 2
    check(close(middle, r["tokens_per_s_median"]), "median")
    check(list(r["bytes_by_component"]) == COMPONENTS, "components")
    check(close(sum(r["bytes_by_component"].values()), r["bytes_per_token"]), "sum of components")
    tiers = r["bytes_by_tier"]
    check(close(tiers["memory"] + tiers["gpu"], r["bytes_per_token"]), "sum of tiers")
    check(tiers["disk"] == r["store"]["disk_bytes_per_token"], "disk")
    check(close(tiers["memory"] * r["tokens_per_s_median"] / r["bandwidth_bytes_per_s"],
                r["roofline_fraction"]), "roofline")
    check(len(r["bandwidth_samples"]) >= 2, "bandwidth before and after")
    check(("first_token_s" in r) == (r["kind"] == "prompt"), "first_token_s")
    check(0 < r["active_fraction"] < 1, "active_fraction")
    store = r["store"]
    check(0 <= store["hit_rate"] <= 1 and store["stall_s_per_token"] >= 0, "store")
    check((store["disk_bytes_per_token"] > 0) == (store["hit_rate"] < 1), "reads without misses")
    if store["memory_limit_bytes"] == 0:
        check(store["hit_rate"] == 1, "misses without a limit")
    check_layers(r)


def check_layers(r):
    layers, outside = r["layers"][:-1], r["layers"][-1]
    used = {sum(layer["expert_use"]) for layer in layers}
    tokens = r["tokens"] * r["sequences"]
    check(len(used) == 1 and used.pop() % tokens == 0, "uses of experts")
    for layer in layers:
        check(layer["busy_us"]["experts"] > 0, "no time for experts")
        check("head" not in layer["busy_us"], "a head inside a layer")
    own, other = (sum(n[k] for n in r["nodes"]) for k in ("own_bytes", "other_bytes"))
    check(own > 0 and close(r["node_own_fraction"], own / (own + other)), "bytes by node")
    check(other == 0 if len(r["nodes"]) == 1 else own >= 0.95 * (own + other), "bytes read afar")
    speeds = [n["bandwidth_bytes_per_s"] for n in r["nodes"]]
    check(all(s > 0 for s in speeds), "a node without bandwidth")
    check(len(speeds) > 1 or close(speeds[0], r["bandwidth_bytes_per_s"]), "bandwidth of one node")
    check(outside["busy_us"]["head"] > 0, "no time for the head")


def check_json(path):
    report = json.load(open(path, encoding="utf-8"))
    machine = report["machine"]
    for key in ["cpu", "kernels", "commit", "version", "date"]:
        check(isinstance(machine.get(key), str) and machine[key], f"machine.{key}")
    for key in ["cores", "threads", "memory_bytes", "llc_bytes"]:
        check(isinstance(machine.get(key), int), f"machine.{key}")
    check(report["results"], "no results")
    said = open(os.path.join(os.path.dirname(__file__), "../bench/README.md"), encoding="utf-8").read()
    for key in [*report, *machine, *report["results"][0]]:
        check(f"`{key}`" in said, f"bench/README.md does not say what {key} is")
    for r in report["results"]:
        check_result(r)
    for r in report["results"]:
        print(r["kind"], r["tokens"], r["depth"], r["threads"], r["store"]["memory_limit_bytes"])
    if "compare" in report:
        c = report["compare"]
        check(len(c["samples"]) == len(c["stoker_samples"]) >= 3, "alternations")
        check(close(c["ratio"], c["stoker_tokens_per_s_median"] / c["tokens_per_s_median"]), "ratio")
        print("compare", c["kind"], c["tokens"], c["tokens_per_s_median"], c["command"])


def check_draft(path):
    d = json.load(open(path, encoding="utf-8"))["draft"]
    check(len(d["samples"]) == len(d["plain_samples"]) >= 3, "turns")
    check(0 < d["accepted_tokens"] <= d["drafted_tokens"], "accepted of drafted")
    check(d["passes"] + d["accepted_tokens"] == d["tokens"], "a pass or a guess for every token")
    print(d["tokens"], d["prompt_tokens"], d["draft_tokens_max"])


def check_csv(path):
    rows = list(csv.DictReader(open(path, newline="", encoding="utf-8"), strict=True))
    check(rows, "no rows")
    for row in rows:
        check(None not in row and None not in row.values(), "columns")
        check(row["limit"] in LIMITS and row["noise"] in ["noisy", "quiet"], "words")
        check(0 <= float(row["others_fraction"]) <= 1, "what others used")
        total = sum(float(row["bytes_" + c]) for c in COMPONENTS)
        check(abs(total - float(row["bytes_per_token"])) <= len(COMPONENTS), "sum of components")
        print(row["kind"], row["tokens"], row["model"])


def check_html(path):
    text = open(path, encoding="utf-8").read()
    root = xml.etree.ElementTree.fromstring(text.replace("<!DOCTYPE html>", "", 1))
    check(root.tag == "html", "root")
    for word in ["http", "src=", "url(", "<script", "@import"]:
        check(word not in text, f"the page asks for something: {word}")
    check(text.count('role="img"') == 6, "six charts")
    check("prefers-color-scheme:dark" in text, "dark theme")
    check("nan" not in text and "inf" not in text.replace("info", ""), "numbers")


def check_trace(path):
    events = json.load(open(path, encoding="utf-8"))["traceEvents"]
    spans = [e for e in events if e["ph"] == "X"]
    workers = {e["tid"] for e in spans}
    check(workers == {0, 1}, f"workers {workers}")
    for worker in workers:
        mine = [e for e in spans if e["tid"] == worker]
        check(all(e["dur"] >= 0 and e["ts"] >= 0 for e in mine), "negative times")
        check(all(b["ts"] >= a["ts"] for a, b in zip(mine, mine[1:])), "order")
        names = [e["name"] for e in mine]
        check(names.count("embed") == 1 and names.count("head") == 1, "more than one token")
        check(names.count("experts") == names.count("attend") > 1, "layers")


def read_gpu_trace(path):
    """The lanes, and the events by lane, name and layer."""
    events = json.load(open(path, encoding="utf-8"))["traceEvents"]
    lanes = {e["args"]["name"]: e["tid"] for e in events if e["name"] == "thread_name"}
    check("GPU" in lanes, f"lanes {list(lanes)}")
    return lanes, {(e["tid"], e["name"], e["args"]["layer"]): e for e in events if e["ph"] == "X"}


def inside(inner, outer):
    # written with three decimals
    return outer["ts"] <= inner["ts"] + 0.002 and \
        inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 0.002


def check_gpu_blocks(path):
    """One worker, experts on both sides: it routes while the GPU computes attention, and waits for the head."""
    lanes, at = read_gpu_trace(path)
    layers = [layer for lane, name, layer in at if lane == 0 and name == "route"]
    check(len(layers) > 1, f"{len(layers)} layers")
    for layer in layers:
        attention = at.get((lanes["GPU"], "attention", layer))
        check(attention is not None, f"layer {layer}: no attention")
        check(inside(at[0, "route", layer], attention), f"layer {layer}: not routed meanwhile")
        check(inside(attention, {"ts": at[0, "project", layer]["ts"], "dur": 1e12}), "began too early")
    outside = max(layers) + 1
    check(inside(at[lanes["GPU"], "head", outside], at[0, "head", outside]), "head")
    check((lanes["GPU"], "layers", 0) not in at, "layers follow each other though experts are missing")


def check_gpu_layers(path):
    """The last three layers follow each other on the GPU, and the head with them."""
    lanes, at = read_gpu_trace(path)
    first = [layer for lane, name, layer in at if lane == 0 and name == "gpu_layers"]
    mine = sorted(layer for lane, name, layer in at if lane == 0 and name == "experts")
    check(len(first) == 1 and mine == list(range(first[0])), f"runs {first}, others {mine}")
    check(inside(at[lanes["GPU"], "layers", first[0]], at[0, "gpu_layers", first[0]]), "not inside")
    check(not any(name in ["attention", "head"] for lane, name, _ in at if lane == lanes["GPU"]),
          "came back on the way")


def check_gpu_trace(path):
    """One worker: in some layer the GPU is at work while the CPU computes experts of its own."""
    lanes, at = read_gpu_trace(path)
    both = 0
    for (lane, name, layer), job in at.items():
        submit, wait = at.get((0, "gpu submit", layer)), at.get((0, "gpu wait", layer))
        if lane != lanes["GPU"] or not submit or not wait:
            continue
        phase = at[0, "experts", layer]
        check(phase["ts"] <= submit["ts"] and wait["ts"] <= phase["ts"] + phase["dur"], "not inside")
        begin, end = submit["ts"] + submit["dur"], wait["ts"] # the CPU's own experts
        both += begin < end and job["ts"] < end and begin < job["ts"] + job["dur"]
    check(both > 0, "nothing runs at the same time")


def check_gpu_tiers(path):
    """Attention of all layers, the head and about half of the experts are the GPU's."""
    r = json.load(open(path, encoding="utf-8"))["results"][0]
    check_result(r)
    parts = r["bytes_by_component"]
    gate = r["bytes_by_tier"]["gpu"] - parts["attention"] - parts["kv"] - parts["head"]
    check(0.1 < gate / parts["gate"] < 0.9, f"{gate} of {parts['gate']} bytes of gates")
    check(0.05 < r["active_fraction"] < 0.4, "active neurons")


CHECKS = {"gpu_tiers": check_gpu_tiers, "gpu_trace": check_gpu_trace, "gpu_blocks": check_gpu_blocks,
          "gpu_layers": check_gpu_layers, "json": check_json, "draft": check_draft, "csv": check_csv,
          "html": check_html, "trace": check_trace}
CHECKS[sys.argv[1]](sys.argv[2])
