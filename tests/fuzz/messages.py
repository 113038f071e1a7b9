"""Messages of any type, drawn from its descriptor: valid ones, nearly valid ones, and broken ones."""

from __future__ import annotations

import random
from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.values import Values

# Fields without which a message is refused, by message; of other messages each field is left out now and then.
NEEDED = {
    "SearchRequest": {"query"},
    "RankRequest": {"query", "product_ids"},
    "LocaleQuery": {"query"},
    "ClassifyRequest": {"queries"},
    "EmbedQueriesRequest": {"queries"},
    "EmbedProductsRequest": {"products"},
    "EmbedShopperRequest": {"shopper_id"},
    "Product": {"id", "title"},
    "Event": {"id", "time_ms", "shopper_id", "kind", "product_id"},
    "RecordEventsRequest": {"events"},
    "StreamEventsRequest": {"events"},
    "GetHistoryRequest": {"shopper_id"},
    "ForgetShopperRequest": {"shopper_id"},
    "RankWeights": {"click"},
    "Diversity": {"max_each_brand", "among"},
}
RARE = {"page_token": 0.05, "relevant_only": 0.1, "min_similarity": 0.1, "dimensions": 0.2, "boosts": 0.1}
MAX_DEPTH = 4
ONE_OF_MANY = 3  # messages of a long repeated field that are drawn; the others repeat them


class Messages:
    """Draws messages. `odd` is the share of fields that get an odd value."""

    def __init__(self, values: Values, rng: random.Random) -> None:
        self._values = values
        self._rng = rng

    def draw(self, descriptor: Descriptor, odd: float = 0.0, depth: int = 0) -> Message:
        message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._is_set(field, odd):
                self._set(message, field, odd, depth)
        if self._rng.random() < odd / 10:
            add_unknown_field(message, self._rng)
        return message

    def nearly_valid(self, descriptor: Descriptor) -> Message:
        """Returns a message that is valid but for one or two fields, at any depth."""
        message = self.draw(descriptor)
        for _ in range(self._rng.randint(1, 2)):
            places = [*_places(message)]
            if not places:
                break
            within, field = self._rng.choice(places)
            if self._rng.random() < 0.05:
                add_unknown_field(within, self._rng)
            else:
                within.ClearField(field.name)
                self._set(within, field, 1.0, MAX_DEPTH - 1)
        return message

    def _is_set(self, field: FieldDescriptor, odd: float) -> bool:
        if field.name in NEEDED.get(field.containing_type.name, ()):
            return self._rng.random() >= odd / 4
        return self._rng.random() < RARE.get(field.name, 0.3)

    def _set(self, message: Message, field: FieldDescriptor, odd: float, depth: int) -> None:
        is_odd = self._rng.random() < odd
        if field.message_type and field.message_type.GetOptions().map_entry:
            self._fill_map(getattr(message, field.name), field, is_odd)
        elif field.is_repeated:
            self._fill_repeated(getattr(message, field.name), field, odd, depth, self._values.count(field, odd=is_odd))
        elif field.message_type:
            if depth < MAX_DEPTH:
                getattr(message, field.name).CopyFrom(self.draw(field.message_type, odd, depth + 1))
        else:
            setattr(message, field.name, self._value(field, is_odd))

    def _fill_map(self, entries: object, field: FieldDescriptor, is_odd: bool) -> None:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        for _ in range(self._rng.randint(1, 40 if is_odd else 2)):
            entries[self._value(key, is_odd)] = self._value(value, is_odd)  # type: ignore[index]

    def _fill_repeated(self, items: object, field: FieldDescriptor, odd: float, depth: int, count: int) -> None:
        if not field.message_type:
            values = [self._value(field, self._rng.random() < odd) for _ in range(min(count, 40))]
            items.extend(values[n % len(values)] for n in range(count))  # type: ignore[attr-defined]
        elif depth < MAX_DEPTH:
            # One odd message among ordinary ones shows more than many odd ones: it must be refused alone.
            drawn = [self.draw(field.message_type, odd * (n == 0), depth + 1) for n in range(min(count, ONE_OF_MANY))]
            items.extend(self._renamed(drawn[min(n, len(drawn) - 1)], n) for n in range(count))  # type: ignore[attr-defined]

    def _renamed(self, message: Message, n: int) -> Message:
        """Returns a message that differs in its id from the others of a field, most of the time."""
        if n < ONE_OF_MANY or "id" not in message.DESCRIPTOR.fields_by_name or self._rng.random() < 0.1:
            return message
        copy = type(message)()
        copy.CopyFrom(message)
        copy.id = f"{n}"  # type: ignore[attr-defined]
        return copy

    def _value(self, field: FieldDescriptor, is_odd: bool) -> object:
        return self._values.odd(field) if is_odd else self._values.ordinary(field)


def add_unknown_field(message: Message, rng: random.Random) -> None:
    """Adds a field number that the contract does not have."""
    number = rng.choice((90, 100, 1000, 2**29 - 1))
    tag = number << 3  # a varint
    message.MergeFromString(_varint(tag) + b"\x01")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Returns the bytes of a message, damaged."""
    damaged = bytearray(data or b"\x0a")
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.choice((1, 2, 10, 100, 1000)))
    if kind == 1:
        return bytes(damaged[: rng.randrange(len(damaged))])
    if kind == 2:
        return bytes(damaged) + rng.randbytes(rng.randint(1, 8))
    if kind == 3:  # a field of another wire type, or a group that never ends
        return bytes(damaged) + bytes(
            (rng.randrange(1, 32) << 3 | rng.randrange(8) if rng.random() < 0.5 else 0x0B,)
        ) * rng.randint(1, 200)
    for _ in range(rng.randint(1, 5)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _places(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """Yields every field of the message and of those in it that are set, with the message that has it."""
    for field in message.DESCRIPTOR.fields:
        yield message, field
        if not field.message_type or field.message_type.GetOptions().map_entry:
            continue
        value = getattr(message, field.name)
        if field.is_repeated:
            for item in value[:ONE_OF_MANY]:
                yield from _places(item)
        elif message.HasField(field.name):
            yield from _places(value)
