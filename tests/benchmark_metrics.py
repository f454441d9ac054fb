"""How fast and how large the metrics are: python tests/benchmark_metrics.py, a minute on two idle cores.

Ratios are taken in one process, each side at its best of two or three runs. Run it on an idle machine: BLAS
threads that wait for a busy core slow the fast way more than the slow one.
"""

import resource
import sys
import time

import numpy as np
import scipy.linalg

from fmgan_tf import metrics


def best_seconds(function, repeats):
    """The shortest time of several calls, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return min(times), result


def usual_way(real, generated):
    """The distance as most scripts compute it."""
    gap = real.mean - generated.mean
    root = scipy.linalg.sqrtm(real.covariance @ generated.covariance)
    return gap @ gap + np.trace(real.covariance) + np.trace(generated.covariance) - 2 * np.trace(root).real


def peak_megabytes():
    """The largest memory this process has held so far (Linux counts in kB, macOS in bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(10_000, 128)), 1.1 * rng.normal(size=(10_000, 128))
    rows = []

    before = peak_megabytes()  # first of all, for the peak never falls again
    seconds, _ = best_seconds(lambda: metrics.precision_recall(real, generated), 3)
    note = f"peak {peak_megabytes():,.0f} MB, of which {before:,.0f} MB before (TensorFlow and the features)"
    rows.append(("precision and recall, 10,000 x 10,000 x 128", seconds, note))
    for name, function in (
        ("density and coverage, same", metrics.density_coverage),
        ("kernel distance, same", metrics.kernel_distance),
        ("Frechet distance with moments, same", metrics.frechet_distance),
        ("its standard error, same", metrics.frechet_standard_error),
    ):
        rows.append((name, best_seconds(lambda function=function: function(real, generated), 2)[0], ""))

    # Features as a network's: correlated, with variances over four decades
    spread = np.logspace(0, -2, 2048) * np.linalg.qr(rng.normal(size=(2048, 2048)))[0]
    draws = (rng.normal(size=(10_000, 2048)) @ spread * scale + scale for scale in (1, 1.1))
    sides = [metrics.Moments.of(draw) for draw in draws]
    seconds, distance = best_seconds(lambda: metrics.frechet_distance(*sides), 3)
    usual_seconds, usual = best_seconds(lambda: usual_way(*sides), 2)
    note = f"{usual_seconds / seconds:.1f} times as fast as sqrtm"
    rows.append(("Frechet distance from moments, 2048 dimensions", seconds, note))
    note = f"relative difference {abs(usual / distance - 1):.0e}"
    rows.append(("the same with scipy.linalg.sqrtm", usual_seconds, note))

    for name, seconds, note in rows:
        print(f"{name:<48}{seconds:8.2f} s  {note}")


if __name__ == "__main__":
    main()
