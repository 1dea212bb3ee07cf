"""Prints how far the Triton kernel of Sinkhorn's iterations is from the plain ones in FP64: value, gradient, and the
gradient's size. Run with TRITON_INTERPRET=1 where there is no GPU."""

from __future__ import annotations

import torch

from octavo.kernels.hyper.ref import sinkhorn
from octavo.kernels.hyper.sinkhorn import Sinkhorn


def main() -> None:
    """100 matrices: one block of tokens and a part of the next."""
    torch.manual_seed(0)
    logits, weight = torch.randn(100, 4, 4) * 3, torch.randn(100, 4, 4)
    narrow, wide = logits.clone().requires_grad_(), logits.double().requires_grad_()
    made, expected = Sinkhorn.apply(narrow, 20, 1e-6), sinkhorn(wide, iters=20, eps=1e-6)
    (found,) = torch.autograd.grad((made * weight).sum(), narrow)
    (wanted,) = torch.autograd.grad((expected * weight).sum(), wide)
    print(float((made - expected).abs().max()), float((found - wanted).abs().max()), float(wanted.abs().max()))


if __name__ == "__main__":
    main()
