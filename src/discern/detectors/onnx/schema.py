"""The part of the ONNX format that static inspection reads, as data.

Source: onnx.proto of ONNX (IR version 14), message and field names as there. A test compares it with the descriptors
of the official `onnx` package, and checks that no field by which a tensor, a node or a graph can be reached is left
out.
"""

from __future__ import annotations

from typing import Final

SCHEMA: Final[
    dict[str, dict[str, tuple[int, str]]]
] = {  # message -> field -> (number, type; "[]" marks a repeated field)
    "ModelProto": {
        "ir_version": (1, "int64"),
        "graph": (7, "GraphProto"),
        "opset_import": (8, "OperatorSetIdProto[]"),
        "training_info": (20, "TrainingInfoProto[]"),
        "functions": (25, "FunctionProto[]"),
    },
    "OperatorSetIdProto": {"domain": (1, "string"), "version": (2, "int64")},
    "TrainingInfoProto": {"initialization": (1, "GraphProto"), "algorithm": (2, "GraphProto")},
    "FunctionProto": {
        "name": (1, "string"),
        "node": (7, "NodeProto[]"),
        "opset_import": (9, "OperatorSetIdProto[]"),
        "domain": (10, "string"),
        "attribute_proto": (11, "AttributeProto[]"),
        "value_info": (12, "ValueInfoProto[]"),
    },
    "GraphProto": {
        "node": (1, "NodeProto[]"),
        "name": (2, "string"),
        "initializer": (5, "TensorProto[]"),
        "input": (11, "ValueInfoProto[]"),
        "output": (12, "ValueInfoProto[]"),
        "value_info": (13, "ValueInfoProto[]"),
        "sparse_initializer": (15, "SparseTensorProto[]"),
    },
    "NodeProto": {
        "name": (3, "string"),
        "op_type": (4, "string"),
        "attribute": (5, "AttributeProto[]"),
        "domain": (7, "string"),
    },
    "AttributeProto": {
        "name": (1, "string"),
        "t": (5, "TensorProto"),
        "g": (6, "GraphProto"),
        "tensors": (10, "TensorProto[]"),
        "graphs": (11, "GraphProto[]"),
        "tp": (14, "TypeProto"),
        "type_protos": (15, "TypeProto[]"),
        "sparse_tensor": (22, "SparseTensorProto"),
        "sparse_tensors": (23, "SparseTensorProto[]"),
    },
    "ValueInfoProto": {"name": (1, "string"), "type": (2, "TypeProto")},
    "TypeProto": {
        "tensor_type": (1, "TypeProto.Tensor"),
        "sequence_type": (4, "TypeProto.Sequence"),
        "map_type": (5, "TypeProto.Map"),
        "sparse_tensor_type": (8, "TypeProto.SparseTensor"),
        "optional_type": (9, "TypeProto.Optional"),
    },
    "TypeProto.Tensor": {"elem_type": (1, "int32"), "shape": (2, "TensorShapeProto")},
    "TypeProto.SparseTensor": {"elem_type": (1, "int32"), "shape": (2, "TensorShapeProto")},
    "TypeProto.Sequence": {"elem_type": (1, "TypeProto")},
    "TypeProto.Map": {"key_type": (1, "int32"), "value_type": (2, "TypeProto")},
    "TypeProto.Optional": {"elem_type": (1, "TypeProto")},
    "TensorShapeProto": {"dim": (1, "TensorShapeProto.Dimension[]")},
    "TensorShapeProto.Dimension": {"dim_value": (1, "int64"), "dim_param": (2, "string")},
    "SparseTensorProto": {
        "values": (1, "TensorProto"),
        "indices": (2, "TensorProto"),
        "dims": (3, "int64[]"),
    },
    "TensorProto": {
        "dims": (1, "int64[]"),
        "data_type": (2, "int32"),
        "segment": (3, "TensorProto.Segment"),
        "float_data": (4, "float[]"),
        "int32_data": (5, "int32[]"),
        "string_data": (6, "bytes[]"),
        "int64_data": (7, "int64[]"),
        "name": (8, "string"),
        "raw_data": (9, "bytes"),
        "double_data": (10, "double[]"),
        "uint64_data": (11, "uint64[]"),
        "external_data": (13, "StringStringEntryProto[]"),
        "data_location": (14, "enum"),
    },
    "TensorProto.Segment": {},
    "StringStringEntryProto": {"key": (1, "string"), "value": (2, "string")},
}

BY_NUMBER: Final = {
    message: {number: (name, kind.removesuffix("[]"), kind.endswith("[]")) for name, (number, kind) in fields.items()}
    for message, fields in SCHEMA.items()
}
"""message -> field number -> (name, type, whether it may stand there many times)."""

ELEMENT_TYPES: Final[dict[int, tuple[str, int]]] = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8e4m3fn", 8),
    18: ("float8e4m3fnuz", 8),
    19: ("float8e5m2", 8),
    20: ("float8e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4e2m1", 4),
    24: ("float8e8m0", 8),
    25: ("uint2", 2),
    26: ("int2", 2),
    27: ("float6e2m3", 6),
    28: ("float6e3m2", 6),
}
"""TensorProto.DataType: its name in NumPy's or ONNX's words, and bits an element (0: of varying length)."""
