#!/usr/bin/env python3
"""Train a small SmallThinker-architecture MoE on public-domain stories and write it as GGUF (F16).

A trained model gives what random weights cannot: real router skew, real ReGLU sparsity, a real
head, text that can be read, perplexities that mean something. bf16 matmuls, f32 master weights.

The texts are those of models/SOURCES.tsv, one book a file, in one folder. Needs python3-numpy,
python3-torch and python3-regex. Writes OUT_DIR/stories-f16.gguf; models/README.md says what came of it.

usage: models/train/train_stories.py CORPUS_DIR OUT_DIR [--minutes 100] [--threads 2] [--batch 16]
"""
import argparse, collections, glob, json, math, os, struct, time
import numpy as np, regex, torch, torch.nn as nn, torch.nn.functional as F

L, D, H, NQ, NK, E, K, FF, V, CTX = 8, 256, 64, 4, 2, 32, 4, 128, 4096, 256
THETA, EPS = 1e6, 1e-6
PRE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

def byte_alphabet():
    bs = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256)); cs = bs[:]; n = 0
    for b in range(256):
        if b not in bs: bs.append(b); cs.append(256 + n); n += 1
    return {b: chr(c) for b, c in zip(bs, cs)}

def train_bpe(text, n_vocab):
    a = byte_alphabet()
    words = collections.Counter(regex.findall(PRE, text))
    seqs = [[a[b] for b in w.encode()] for w in words]; cnt = list(words.values())
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, s in enumerate(seqs):
        for p in zip(s, s[1:]): pairs[p] += cnt[i]; where[p].add(i)
    vocab = [a[b] for b in sorted(a)]; vocab = sorted(set(vocab), key=lambda c: [a[b] for b in range(256)].index(c)); merges = []
    while len(vocab) < n_vocab - len(SPECIAL):
        p = max(pairs, key=lambda q: (pairs[q], q))
        merges.append(p); vocab.append(p[0] + p[1])
        for i in list(where[p]):
            s = seqs[i]
            for q in zip(s, s[1:]): pairs[q] -= cnt[i]; where[q].discard(i)
            out, j = [], 0
            while j < len(s):
                if j + 1 < len(s) and (s[j], s[j + 1]) == p: out.append(s[j] + s[j + 1]); j += 2
                else: out.append(s[j]); j += 1
            seqs[i] = out
            for q in zip(out, out[1:]): pairs[q] += cnt[i]; where[q].add(i)
        pairs.pop(p, None); where.pop(p, None)
    table = dict(zip(words, seqs))
    return vocab + SPECIAL, merges, table

MASK = torch.full((4096, 4096), float("-inf"), dtype=torch.bfloat16).triu(1)[:512, :512].contiguous()

class RMS(nn.Module):
    def __init__(s, d): super().__init__(); s.weight = nn.Parameter(torch.ones(d))
    def forward(s, x): return s.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)

def rope(x, cos, sin):
    a, b = x.chunk(2, -1); return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

class Layer(nn.Module):
    def __init__(s, i):
        super().__init__(); s.i = i
        s.attn_norm, s.ffn_norm = RMS(D), RMS(D)
        s.q, s.k, s.v, s.o = (nn.Linear(D, n, bias=False) for n in (NQ * H, NK * H, NK * H, D))
        s.router = nn.Linear(D, E, bias=False)
        s.gate, s.up, s.down = (nn.Parameter(torch.randn(E, *sh) * 0.02) for sh in ((D, FF), (D, FF), (FF, D)))
        for m in (s.q, s.k, s.v, s.o): nn.init.normal_(m.weight, std=0.02)
        nn.init.normal_(s.router.weight, std=0.02)
        for w in (s.o.weight, s.down): w.data.mul_(1 / math.sqrt(2 * L))
    def forward(s, x, cos, sin):
        B, T, _ = x.shape
        logits = F.linear(x.float(), s.router.weight.float())                 # pre-attention, un-normalised
        h = s.attn_norm(x)
        q, k, v = (m(h).view(B, T, -1, H).transpose(1, 2) for m in (s.q, s.k, s.v))
        if s.i % 4: q, k = rope(q, cos, sin), rope(k, cos, sin)
        k, v = (t.repeat_interleave(NQ // NK, 1) for t in (k, v))
        att = ((q * H ** -0.5) @ k.transpose(-1, -2) + MASK[:T, :T]).softmax(-1)
        x = x + s.o((att.to(v.dtype) @ v).transpose(1, 2).reshape(B, T, NQ * H))
        h = s.ffn_norm(x).reshape(-1, D); lg = logits.reshape(-1, E)
        top, idx = lg.topk(K, -1); w = top.sigmoid(); w = w / w.sum(-1, keepdim=True)
        flat, order = idx.reshape(-1).sort(stable=True); tok = order // K
        n = torch.bincount(flat, minlength=E).tolist()
        hs = h.to(torch.bfloat16)[tok].split(n); outs = []
        gu, d16 = torch.cat((s.gate, s.up), 2).to(torch.bfloat16).unbind(0), s.down.to(torch.bfloat16).unbind(0)
        for e in range(E):
            g, u = (hs[e] @ gu[e]).chunk(2, 1); outs.append((F.relu(g) * u) @ d16[e])
        y = torch.cat(outs).float() * w.reshape(-1)[order, None]
        out = torch.zeros_like(h, dtype=torch.float32).index_add(0, tok, y)
        p = lg.sigmoid(); p = p / p.sum(-1, keepdim=True)
        aux = E * (p.mean(0) * (torch.tensor(n) / (len(flat)))).sum()         # over the whole batch: loose balance
        return x + out.view(B, T, D), aux

class Net(nn.Module):
    def __init__(s):
        super().__init__(); s.emb = nn.Embedding(V, D); nn.init.normal_(s.emb.weight, std=0.02)
        s.layers = nn.ModuleList(Layer(i) for i in range(L)); s.norm = RMS(D)
        f = 1 / THETA ** (torch.arange(0, H, 2) / H); t = torch.arange(4096)[:, None] * f
        s.register_buffer("cos", t.cos()); s.register_buffer("sin", t.sin())
    def forward(s, ids, tgt):
        T = ids.shape[1]; x = s.emb(ids) * 1.0; aux = 0
        for l in s.layers:
            x, a = l(x, s.cos[:T], s.sin[:T]); aux = aux + a
        lg = F.linear(s.norm(x), s.emb.weight)
        return F.cross_entropy(lg.float().view(-1, V), tgt.reshape(-1)), aux / L

def write_gguf(path, net, vocab, merges, name):
    arch = "smallthinker"; kv = []
    def S(x): b = x.encode() if isinstance(x, str) else x; return struct.pack("<Q", len(b)) + b
    def u32(k, v): kv.append(S(k) + struct.pack("<II", 4, v))
    def f32(k, v): kv.append(S(k) + struct.pack("<If", 6, v))
    def st(k, v): kv.append(S(k) + struct.pack("<I", 8) + S(v))
    def arr(k, t, items, pack): kv.append(S(k) + struct.pack("<IIQ", 9, t, len(items)) + b"".join(map(pack, items)))
    st("general.architecture", arch); st("general.name", name); u32("general.file_type", 1)
    for k, v in (("block_count", L), ("context_length", 4096), ("embedding_length", D), ("feed_forward_length", FF),
                 ("expert_feed_forward_length", FF), ("attention.head_count", NQ), ("attention.head_count_kv", NK),
                 ("attention.key_length", H), ("attention.value_length", H), ("rope.dimension_count", H), ("expert_count", E),
                 ("expert_used_count", K), ("expert_gating_func", 2), ("attention.sliding_window", 4096)): u32(f"{arch}.{k}", v)
    f32(f"{arch}.rope.freq_base", THETA); f32(f"{arch}.attention.layer_norm_rms_epsilon", EPS)
    st("tokenizer.ggml.model", "gpt2"); st("tokenizer.ggml.pre", "qwen2")
    arr("tokenizer.ggml.tokens", 8, vocab, S)
    arr("tokenizer.ggml.token_type", 5, [3 if t in SPECIAL else 1 for t in vocab], lambda t: struct.pack("<i", t))
    arr("tokenizer.ggml.merges", 8, [a + " " + b for a, b in merges], S)
    u32("tokenizer.ggml.eos_token_id", V - 3); u32("tokenizer.ggml.bos_token_id", V - 3); u32("tokenizer.ggml.padding_token_id", V - 3)
    kv.append(S("tokenizer.ggml.add_bos_token") + struct.pack("<IB", 7, 0))
    ts = []
    def t(n, x, f16=True): ts.append((n, x.detach().numpy().astype(np.float16 if f16 else np.float32), 1 if f16 else 0))
    t("token_embd.weight", net.emb.weight); t("output_norm.weight", net.norm.weight, False)
    for i, l in enumerate(net.layers):
        b = f"blk.{i}."
        t(b + "attn_norm.weight", l.attn_norm.weight, False); t(b + "ffn_norm.weight", l.ffn_norm.weight, False)
        for n, m in (("q", l.q), ("k", l.k), ("v", l.v), ("output", l.o)): t(b + f"attn_{n}.weight", m.weight)
        t(b + "ffn_gate_inp.weight", l.router.weight, False)
        for n in ("gate", "up", "down"): t(b + f"ffn_{n}_exps.weight", getattr(l, n).transpose(1, 2).contiguous())
    off, infos = 0, b""
    for n, x, ty in ts:
        dims = x.shape[::-1]
        infos += S(n) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", ty, off)
        off += (x.nbytes + 31) // 32 * 32
    with open(path, "wb") as f:
        f.write(struct.pack("<IIQQ", 0x46554747, 3, len(ts), len(kv)) + b"".join(kv) + infos); f.write(b"\0" * (-f.tell() % 32))
        for _, x, _ in ts: f.write(x.tobytes()); f.write(b"\0" * (-x.nbytes % 32))

def main():
    ap = argparse.ArgumentParser(); ap.add_argument("corpus"); ap.add_argument("out")
    ap.add_argument("--minutes", type=float, default=100); ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--batch", type=int, default=16); ap.add_argument("--lr", type=float, default=1.5e-3); ap.add_argument("--name", default="stories")
    a = ap.parse_args(); torch.set_num_threads(a.threads); torch.manual_seed(0); os.makedirs(a.out, exist_ok=True)
    books = [open(p, encoding="utf-8").read().strip() for p in sorted(glob.glob(a.corpus + "/*.txt"))]
    tk = f"{a.out}/tok.json"
    if not os.path.exists(tk):
        t0 = time.time(); vocab, merges, table = train_bpe("\n".join(books), V); ix = {t: i for i, t in enumerate(vocab)}
        ids = []
        for b in books:
            for w in regex.findall(PRE, b):
                s = table.get(w)
                if s is None: s = [byte_alphabet()[c] for c in w.encode()]
                ids += [ix[x] for x in s]
            ids.append(V - 3)
        json.dump([vocab, merges], open(tk, "w")); np.save(f"{a.out}/ids.npy", np.array(ids, np.uint16))
        print(f"bpe {time.time()-t0:.0f}s, {len(ids)/1e6:.2f} M tokens", flush=True)
    vocab, merges = json.load(open(tk)); merges = [tuple(m) for m in merges]; ids = torch.from_numpy(np.load(f"{a.out}/ids.npy").astype(np.int64))
    # hold out every 50th chunk
    ch = ids[: len(ids) // (CTX + 1) * (CTX + 1)].view(-1, CTX + 1); val = ch[25::50]; tr = ch[torch.arange(len(ch)) % 50 != 25]
    net = Net(); print(f"{sum(p.numel() for p in net.parameters())/1e6:.1f} M params, {len(tr)} train chunks", flush=True)
    dec = [p for n, p in net.named_parameters() if p.dim() > 1]; nod = [p for p in net.parameters() if p.dim() <= 1]
    opt = torch.optim.AdamW([{"params": dec, "weight_decay": 0.05}, {"params": nod, "weight_decay": 0.0}], lr=a.lr, betas=(0.9, 0.95))
    t0 = time.time(); step = seen = 0; perm = torch.randperm(len(tr)); pos = 0; ema = None; last = t0
    while (el := (time.time() - t0) / 60) < a.minutes:
        fr = el / a.minutes; lr = a.lr * min(1, (step + 1) / 150) * (0.06 + 0.94 * 0.5 * (1 + math.cos(math.pi * fr)))
        for g in opt.param_groups: g["lr"] = lr
        if pos + a.batch > len(tr): perm = torch.randperm(len(tr)); pos = 0
        b = tr[perm[pos:pos + a.batch]]; pos += a.batch
        with torch.autocast("cpu", dtype=torch.bfloat16): loss, aux = net(b[:, :-1], b[:, 1:])
        (loss + 0.01 * aux).backward(); nn.utils.clip_grad_norm_(net.parameters(), 1.0); opt.step(); opt.zero_grad(set_to_none=True)
        step += 1; seen += a.batch * CTX; ema = loss.item() if ema is None else 0.98 * ema + 0.02 * loss.item()
        if step % 50 == 0: print(f"step {step} {el:.1f} min loss {ema:.3f} aux {aux.item():.2f} {seen/(time.time()-t0):.0f} tok/s lr {lr:.2e}", flush=True)
        if time.time() - last > 600:
            last = time.time(); write_gguf(f"{a.out}/{a.name}-f16.gguf", net, vocab, merges, a.name); torch.save(net.state_dict(), f"{a.out}/net.pt")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        v = [net(b[:, :-1], b[:, 1:])[0].item() for b in val[:64].split(8)]
    print(f"done: {seen/1e6:.1f} M tokens, held-out loss {sum(v)/len(v):.4f}", flush=True)
    write_gguf(f"{a.out}/{a.name}-f16.gguf", net, vocab, merges, a.name); torch.save(net.state_dict(), f"{a.out}/net.pt")
main()
