"""schemes_math.py: what several published schemes share: rounding, Hadamard matrices, codebooks, groups, maps of tokens; in NumPy."""
import functools

import numpy as np

F = np.float32
HALF_MAX = 65504.0


def half(x):
    with np.errstate(over="ignore"):
        return np.clip(np.asarray(x, F).astype(np.float16).astype(np.float64), -HALF_MAX, HALF_MAX)


def paley(q):
    squares = {i * i % q for i in range(1, q)}
    chi = lambda a: 0 if a % q == 0 else 1 if a % q in squares else -1
    h = np.ones((q + 1, q + 1))
    h[1:, 0] = -1
    h[1:, 1:] = [[chi(j - i) for j in range(q)] for i in range(q)]
    np.fill_diagonal(h, 1)
    return h


def hadamard(n):
    order = next(o for o in (1, 12, 20) if n % o == 0 and (n // o) & (n // o - 1) == 0)
    h = np.ones((1, 1)) if order == 1 else paley(order - 1)
    sylvester = np.ones((1, 1))
    while len(sylvester) < n // order:
        sylvester = np.block([[sylvester, sylvester], [sylvester, -sylvester]])
    return np.kron(h, sylvester) / np.sqrt(n)


def mix(state):
    mask = (1 << 64) - 1
    state = (state + 0x9E3779B97F4A7C15) & mask
    state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ state >> 27) * 0x94D049BB133111EB) & mask
    return state ^ state >> 31


def key(state, part):
    return mix(state ^ mix(part))


def signs(seed, layer, head, n):
    k = key(key(seed, layer), head)
    return np.array([-1.0 if key(k, d) >> 63 else 1.0 for d in range(n)])


def minifloat(exponent_bits, mantissa_bits, bias, largest):
    """All values that are at least 0, by their codes."""
    values = []
    for code in range(1 << (exponent_bits + mantissa_bits)):
        e, m = code >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
        fraction = m / (1 << mantissa_bits)
        values.append(2.0 ** (1 - bias) * fraction if e == 0 else 2.0 ** (e - bias) * (1 + fraction))
    return np.array([v for v in values if v <= largest])


E4M3, E5M2, E2M1 = minifloat(4, 3, 7, 448), minifloat(5, 2, 15, 57344), minifloat(2, 1, 1, 6)


def to_minifloat(table, x):
    """Nearest value, ties to the even code, saturating."""
    borders = 0.5 * (table[1:] + table[:-1])
    low = np.searchsorted(borders, np.abs(x), "left")
    tie = (low < len(borders)) & (borders[np.minimum(low, len(borders) - 1)] == np.abs(x))
    return np.copysign(table[np.where(tie & (low % 2 == 1), low + 1, low)], x)


@functools.lru_cache
def codebook(dim, bits):
    """Lloyd's iteration with Gauss-Legendre quadrature in each cell; dim 0: normal, else a sphere's coordinate."""
    density = (lambda z: np.exp(-z * z / 2)) if dim == 0 else lambda z: np.maximum(1 - z * z / dim, 0) ** ((dim - 3) / 2)
    reach = 9.0 if dim == 0 else min(9.0, dim**0.5)
    node, weight = np.polynomial.legendre.leggauss(48)
    levels = np.linspace(-2.5, 2.5, 2**bits)
    for _ in range(4000):
        border = np.concatenate([[-reach], 0.5 * (levels[1:] + levels[:-1]), [reach]])
        middle, radius = 0.5 * (border[1:] + border[:-1]), 0.5 * np.diff(border)
        z = middle[:, None] + radius[:, None] * node
        f = density(z) * weight
        moved, levels = levels, (f * z).sum(1) / f.sum(1)
        if np.abs(levels - moved).max() < 1e-12:
            break
    return levels


def affine(x, axis, bits, rounding="even", stored_divisor=True, clip=None, floor=0.0, table=None):
    """Minimum and scale over one axis; metadata in binary16, or the minifloat of table after the codes."""
    levels = F(2**bits - 1)
    low, high = x.min(axis, keepdims=True), x.max(axis, keepdims=True)
    if clip is not None:
        low, high = low * F(clip), high * F(clip)
    scale = np.maximum((high - low) / levels, F(floor)).astype(F)
    stored = to_minifloat(table, scale) if table is not None else half(scale)
    zero = to_minifloat(table, low) if table is not None else half(low)
    divisor = stored.astype(F) if stored_divisor else scale
    steps = np.where(divisor > 0, (x - low) / np.where(divisor > 0, divisor, 1), 0).astype(F)
    codes = np.rint(steps) if rounding == "even" else np.floor(steps + F(0.5))
    return np.clip(codes, 0, levels) * stored + zero


def grouped(x, group, quantize):
    """quantize over the last axis of [tokens][groups][group]."""
    return quantize(x.reshape(len(x), -1, group)).reshape(x.shape)


def zero_point(x, levels, clip=1.0, whole=True, through_zero=False):
    low, high = x.min(-1, keepdims=True) * clip, x.max(-1, keepdims=True) * clip
    if through_zero:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = half((high - low) / levels)
    flat = scale == 0
    scale = np.where(flat, half(np.abs(high)), scale)
    safe = np.where(scale > 0, scale, 1)
    wide = np.where(high > low, high - low, 1)
    zero = half(np.rint(-low / safe)) if whole else half(levels * -low / wide)
    zero = np.where(flat, np.where(high < 0, 1.0, 0.0), zero)
    steps = np.where(scale > 0, x / safe, 0)
    codes = np.rint(steps) + zero if whole else np.rint(steps + zero)
    return (np.clip(codes, 0, levels) - zero) * scale


# --- maps ------------------------------------------------------------------------------------------------------------


class Head:
    """What a scheme may know of one head beside the tokens it stores."""

    def __init__(self, prefix, first, side, seed=0, layer=0, head=0, frequency=None, queries=None, keys=None):
        self.prefix, self.first, self.side, self.frequency = prefix, first, side, frequency
        self.seed, self.layer, self.head, self.queries, self.keys = seed, layer, head, queries, keys


def turn(x, first, frequency, sign):
    if frequency is None:
        return x
    angle = sign * (first + np.arange(len(x)))[:, None] * frequency[None]
    a, b = x[:, : len(frequency)], x[:, len(frequency) :]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], 1)


def rotated(x, matrix, store):
    return store(x @ matrix.T) @ matrix


def ordered(x, order, store):
    out = np.empty_like(x, dtype=np.float64)
    out[:, order] = store(x[:, order])
    return out


def clusters(prefix, group):
    """Channels ordered by the range of the cluster of (minimum, maximum) they fall into."""
    low, high = prefix.min(0), prefix.max(0)
    d, count = prefix.shape[1], prefix.shape[1] // group
    by_range = sorted(range(d), key=lambda c: (high[c] - low[c], c))
    corners = np.stack([low, high], 1).astype(np.float64)
    centres = corners[[by_range[(2 * c + 1) * d // (2 * count)] for c in range(count)]].copy()
    for _ in range(20):
        of = ((corners[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
        for c in range(count):
            if (of == c).any():
                centres[c] = corners[of == c].mean(0)
    width = centres[:, 1] - centres[:, 0]
    return np.array(sorted(range(d), key=lambda c: (width[of[c]], c)))
