"""Sparkplug B payloads written by Google's protobuf package: the other end of the wire, and the oracle of our reader.

The message types are declared here field by field, as the specification's schema numbers them.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING, DATETIME = range(1, 14)
_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "bool": _FIELD.TYPE_BOOL,
    "bytes": _FIELD.TYPE_BYTES,
}
_METRIC = [
    ("name", 1, "bytes"),
    ("alias", 2, "uint64"),
    ("timestamp", 3, "uint64"),
    ("datatype", 4, "uint32"),
    ("is_historical", 5, "bool"),
    ("is_transient", 6, "bool"),
    ("is_null", 7, "bool"),
    ("metadata", 8, "bytes"),
    ("properties", 9, "bytes"),
    ("int_value", 10, "uint32"),
    ("long_value", 11, "uint64"),
    ("float_value", 12, "float"),
    ("double_value", 13, "double"),
    ("boolean_value", 14, "bool"),
    ("string_value", 15, "bytes"),
    ("bytes_value", 16, "bytes"),
    ("dataset_value", 17, "bytes"),
    ("template_value", 18, "bytes"),
    ("extension_value", 19, "bytes"),
]
_ONE_OF = range(10, 20)  # of these fields only the last one that was written counts


def _classes() -> tuple[Any, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="payload.proto", package="sparkplug", syntax="proto2")
    metric = file.message_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    for name, number, kind in _METRIC:
        field = metric.field.add(name=name, number=number, type=_KINDS[kind], label=_FIELD.LABEL_OPTIONAL)
        if number in _ONE_OF:
            field.oneof_index = 0
    payload = file.message_type.add(name="Payload")
    for name, number, kind in (
        ("timestamp", 1, "uint64"),
        ("seq", 3, "uint64"),
        ("uuid", 4, "bytes"),
        ("body", 5, "bytes"),
    ):
        payload.field.add(name=name, number=number, type=_KINDS[kind], label=_FIELD.LABEL_OPTIONAL)
    payload.field.add(
        name="metrics", number=2, type=_FIELD.TYPE_MESSAGE, label=_FIELD.LABEL_REPEATED, type_name=".sparkplug.Metric"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"sparkplug.{name}") for name in ("Payload", "Metric"))
    payload_class, metric_class = (message_factory.GetMessageClass(one) for one in found)
    return payload_class, metric_class


Payload, Metric = _classes()


def metric(name: str = "", **fields: Any) -> Any:
    """A metric; `name` is left out where it is empty, as in data by alias."""
    return Metric(**({"name": name.encode()} if name else {}), **fields)


def payload(*metrics: Any, seq: int | None = None, time_s: float | None = None) -> bytes:
    """A payload of these metrics, as bytes on the wire."""
    message = Payload(metrics=list(metrics))
    if seq is not None:
        message.seq = seq
    if time_s is not None:
        message.timestamp = round(time_s * 1000)
    return message.SerializeToString()
