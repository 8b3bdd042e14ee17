"""funcnn: neural networks as pure functions, with the gradient as an argument. This file is the listing of the API."""

from . import data as data
from . import distributed as distributed
from . import tree as tree
from .batches import minibatches as minibatches
from .causes import Cause as Cause
from .checking.audit import audit as audit
from .checking.check import assert_gradients as assert_gradients
from .checking.check import check as check
from .checking.diagnosis import HYPOTHESES as HYPOTHESES
from .checking.estimator import check_estimator as check_estimator
from .checking.vjp import assert_vjp as assert_vjp
from .checking.vjp import check_vjp as check_vjp
from .checking.witnesses import WITNESSES as WITNESSES
from .display import progress as progress
from .epochs import fit as fit
from .epochs import patience as patience
from .errors import InputError as InputError
from .history import Divergence as Divergence
from .history import Fit as Fit
from .history import History as History
from .interop.torch_function import torch_function as torch_function
from .interop.torch_module import module as module
from .layers.activations import gelu as gelu
from .layers.activations import leaky_relu as leaky_relu
from .layers.activations import relu as relu
from .layers.activations import sigmoid as sigmoid
from .layers.activations import silu as silu
from .layers.activations import softmax as softmax
from .layers.activations import softplus as softplus
from .layers.activations import tanh as tanh
from .layers.attention import attention as attention
from .layers.batch_norm import batch_norm as batch_norm
from .layers.branches import parallel as parallel
from .layers.branches import rematerialised as rematerialised
from .layers.branches import residual as residual
from .layers.calibration import calibrate as calibrate
from .layers.columns import Column as Column
from .layers.columns import Forward as Forward
from .layers.combine import apply as apply
from .layers.combine import serial as serial
from .layers.convolution import conv1d as conv1d
from .layers.convolution import conv2d as conv2d
from .layers.dense import dense as dense
from .layers.dropout import dropout as dropout
from .layers.dropout import with_dropout as with_dropout
from .layers.dropout import with_seeds as with_seeds
from .layers.embedding import embedding as embedding
from .layers.embedding import positions as positions
from .layers.factors import ByParts as ByParts
from .layers.factors import Outer as Outer
from .layers.factors import Rows as Rows
from .layers.jacobian import jacobian as jacobian
from .layers.laws import laws as laws
from .layers.models import autoencoder as autoencoder
from .layers.models import lenet as lenet
from .layers.models import mlp as mlp
from .layers.models import perceptron as perceptron
from .layers.models import transformer as transformer
from .layers.normalisation import group_norm as group_norm
from .layers.normalisation import layer_norm as layer_norm
from .layers.normalisation import rms_norm as rms_norm
from .layers.pooling import avg_pool2d as avg_pool2d
from .layers.pooling import flatten as flatten
from .layers.pooling import max_pool2d as max_pool2d
from .layers.recurrent import gru as gru
from .layers.recurrent import lstm as lstm
from .layers.recurrent import rnn as rnn
from .loop import train as train
from .losses import binary_cross_entropy as binary_cross_entropy
from .losses import half_squared_error as half_squared_error
from .losses import mean_squared_error as mean_squared_error
from .losses import softmax_cross_entropy as softmax_cross_entropy
from .objectives import accuracy as accuracy
from .objectives import supervised as supervised
from .optimizers.averaging import averaged as averaged
from .optimizers.combinations import chain as chain
from .optimizers.combinations import clip_by_norm as clip_by_norm
from .optimizers.compiling import Scan as Scan
from .optimizers.compiling import compiled as compiled
from .optimizers.compiling import compiled_scan as compiled_scan
from .optimizers.descent import descend as descend
from .optimizers.masking import masked as masked
from .optimizers.mezo import mezo as mezo
from .optimizers.nesterov import nesterov as nesterov
from .optimizers.quasi_newton import bfgs as bfgs
from .optimizers.schedules import cosine as cosine
from .optimizers.schedules import piecewise as piecewise
from .optimizers.schedules import warmup as warmup
from .optimizers.searches import exact_line_search as exact_line_search
from .optimizers.searches import line_search as line_search
from .optimizers.transformations import adam as adam
from .optimizers.transformations import adamw as adamw
from .optimizers.transformations import momentum as momentum
from .optimizers.transformations import rmsprop as rmsprop
from .optimizers.transformations import sgd as sgd
from .providers.complex_plane import complex_step as complex_step
from .providers.differences import finite_difference as finite_difference
from .providers.listing import PROVIDERS as PROVIDERS
from .providers.reverse import autograd as autograd
from .providers.reverse import explicit as explicit
from .providers.reverse import func_grad as func_grad
from .providers.scores import Expectation as Expectation
from .providers.scores import score_function as score_function
from .providers.stochastic import evolution as evolution
from .providers.stochastic import forward_gradient as forward_gradient
from .providers.stochastic import spsa as spsa
from .report import Finding as Finding
from .report import Report as Report
from .samples import per_sample as per_sample
from .samples import per_sample_clip as per_sample_clip
from .samples import per_sample_norms as per_sample_norms
from .storage import load as load
from .storage import save as save
from .sums import l1 as l1
from .sums import l2 as l2
from .sums import regularised as regularised
from .types import At as At
from .types import Layer as Layer
from .types import Loss as Loss
from .types import Objective as Objective
from .types import Optimizer as Optimizer
from .types import Step as Step
from .types import StepFn as StepFn
from .types import Transformation as Transformation

__version__ = "0.1.0"
__all__ = [
    name
    for name, thing in list(globals().items())
    if name[0] != "_" and (name in ("data", "distributed", "tree") or not hasattr(thing, "__file__"))
]


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__version__"]
