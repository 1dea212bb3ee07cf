"""Tensor operations of the model, one folder an operation: contract, plain reference, faster bodies.

Covers: pure functions on tensors. Does not cover: modules, requests, configuration objects.
"""
