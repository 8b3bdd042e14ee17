"""Layers: each a forward rule beside the backward rule that was derived from it by hand, and what both know of themselves.

A layer is `init`, `forward` and `backward`. `forward(params, x)` returns the output and the residuals, the tensors that
the derivative needs; `backward(residuals, dy)` takes the gradient dy = dL/dy of some scalar L and returns (dL/dparams,
dL/dx). Both are pure and keep no hidden state, so each half can be printed, tested and vmapped alone.

Every rule is derived the same way: with <A, B> = sum_ij A_ij B_ij, a small change dY of the output changes the loss by
<dL/dY, dY>; insert the differential of the forward rule and read off what multiplies dW, db and dX. See Goodfellow,
Bengio & Courville, *Deep Learning* (2016), section 6.5, and Bishop, *Pattern Recognition and Machine Learning* (2006),
section 5.3.

    factors      a pullback by its parts: summands of the parameter gradient, not yet summed over the batch
    columns      a forward rule that knows what moving one number does to its output
    guarded      the public door of a layer: what does not fit is refused there
    pullbacks    passes through layers, and through layers made of layers
    frozen       a pass that leaves out what frozen parameters do not need
    windows      where a kernel stands on an image; correlations, the sums of a convolution
    scan         a cell along the tokens of a sequence, and back-propagation through time
    dense, activations, convolution, pooling, normalisation, batch_norm, embedding, attention, recurrent, dropout
                 the layers themselves
    combine, branches, models
                 layers made of layers: in series and otherwise; networks that have a name
    calibration  batch norms for evaluation
    laws         every optional rule against its definition
    jacobian     a pullback laid out in full
"""
