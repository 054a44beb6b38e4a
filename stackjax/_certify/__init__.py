"""The certificate: constants estimated, bounds computed, said plainly when vacuous."""

from stackjax._certify.certificate import Certificate, Constant, Statement
from stackjax._certify.deployed import Deployed
from stackjax._certify.gap import response_error
from stackjax._certify.intervals import MeanInterval, draws_needed, mean_interval
from stackjax._certify.real_turns import RealTurns
from stackjax._certify.repair import horizon_repair_bound, repair_bound
from stackjax._certify.statements import certify
from stackjax._certify.transfer import Discrepancies, discrepancies

__all__ = [
    "Certificate",
    "Constant",
    "Deployed",
    "Discrepancies",
    "MeanInterval",
    "RealTurns",
    "Statement",
    "certify",
    "discrepancies",
    "draws_needed",
    "horizon_repair_bound",
    "mean_interval",
    "repair_bound",
    "response_error",
]
