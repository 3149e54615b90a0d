"""Which products may be answered: on sale now, and what a request asks for; in graph."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_shop.catalogue import Catalogue
from tfrs_shop.dataset import lookup_table
from tfrs_shop.schema import CATEGORY_SEPARATOR, category_prefixes
from tfrs_shop.served.lookup import is_in
from tfrs_shop.table_rows import table_rows

ANY, UNKNOWN = 0, -1


class Limits(NamedTuple):
    """What the rows of a request allow.

    Attributes:
        excluded: ``[batch, excluded]`` int32 products, 0 padded.
        category: ``[batch]`` int32 of `ProductFilter.category_of`; 0: any.
        price_min, price_max: ``[batch]`` float32, both inclusive; NaN or negative: no bound.
        now: ``[batch]`` int64, milliseconds since 1970.
    """

    excluded: tf.Tensor
    category: tf.Tensor
    price_min: tf.Tensor
    price_max: tf.Tensor
    now: tf.Tensor

    def rows(self, places: tf.Tensor) -> "Limits":
        """Return the limits of the rows ``places`` ``[rows]``."""
        return Limits(*(tf.gather(part, places) for part in self))


class ProductFilter(tf.Module):
    """Knows each product's price, categories, and when it is on sale.

    Args:
        catalogue: the products.
    """

    def __init__(self, catalogue: Catalogue):
        super().__init__(name="filter")
        paths = [category_prefixes(_levels(name)) for name in catalogue.category_name]
        names = sorted({prefix for path in paths for prefix in path})
        numbers = {name: number for number, name in enumerate(names, 1)}
        categories = np.zeros([len(paths), max(map(len, paths), default=0) or 1], np.int32)
        for place, path in enumerate(paths):
            categories[place, : len(path)] = [numbers[prefix] for prefix in path]
        self.categories = tf.Variable(categories, trainable=False)
        self.table = lookup_table([name.encode("utf-8") for name in names])
        self.price = tf.Variable(catalogue.price, trainable=False)
        never, ever = np.iinfo(np.int64).min, np.iinfo(np.int64).max
        start, end = (np.asarray(times) for times in (catalogue.on_sale_from, catalogue.on_sale_to))
        self.on_sale_from = tf.Variable(np.where(start < 0, never, start), trainable=False)
        self.on_sale_to = tf.Variable(np.where(end < 0, ever, end), trainable=False)

    def category_of(self, name: tf.Tensor) -> tf.Tensor:
        """Return ``[batch]`` int32 for ``name`` ``[batch]`` string: 0 for "", -1 for a category of no product."""
        number = tf.cast(self.table.lookup(name), tf.int32)
        return tf.where(name == "", ANY, tf.where(number > 0, number, UNKNOWN))

    def no_limits(self, batch: tf.Tensor, excluded: tf.Tensor) -> Limits:
        """Return limits that allow all that is on sale now, but for ``excluded`` ``[batch, excluded]``."""
        no_price = tf.fill([batch], np.float32(np.nan))
        return Limits(excluded, tf.fill([batch], ANY), no_price, no_price, tf.fill([batch], clock()))

    def allowed(self, limits: Limits, products: tf.Tensor) -> tf.Tensor:
        """Say of ``products`` ``[batch, products]`` int32 whether they may be answered; product 0 never may."""
        in_category = table_rows(self.categories, products) == limits.category[:, None, None]
        return (
            self.on_sale(limits.now, products)
            & (tf.reduce_any(in_category, 2) | (limits.category == ANY)[:, None])
            & self._in_price(limits, table_rows(self.price, products))
            & ~is_in(products, limits.excluded)
        )

    def allowed_of_all(self, limits: Limits) -> tf.Tensor:
        """Return ``[batch, products + 1]`` bool: what `allowed` says of the whole catalogue."""
        products = tf.range(tf.shape(self.price)[0])[None]
        in_category = tf.convert_to_tensor(self.categories)[None] == limits.category[:, None, None]
        shape = tf.stack([tf.shape(limits.now)[0], tf.shape(self.price)[0]])
        number = tf.repeat(tf.range(shape[0]), tf.shape(limits.excluded)[1])
        places = tf.stack([number, tf.reshape(limits.excluded, [-1])], 1)
        excluded = tf.tensor_scatter_nd_update(tf.fill(shape, False), places, tf.fill(tf.shape(number), True))
        return (
            _within(self.on_sale_from[None], self.on_sale_to[None], limits.now)
            & (products > 0)
            & (tf.reduce_any(in_category, 2) | (limits.category == ANY)[:, None])
            & self._in_price(limits, self.price[None])
            & ~excluded
        )

    def on_sale(self, now: tf.Tensor, products: tf.Tensor) -> tf.Tensor:
        """Say of ``products`` ``[batch, products]`` whether they are on sale at ``now`` ``[batch]``."""
        start, end = table_rows(self.on_sale_from, products), table_rows(self.on_sale_to, products)
        return _within(start, end, now) & (products > 0)

    def _in_price(self, limits: Limits, price: tf.Tensor) -> tf.Tensor:
        """A product without a price is in no range, as NaN compares false."""
        low, high = limits.price_min[:, None], limits.price_max[:, None]
        # Not "not >=": TensorFlow's graph optimizer makes "<" of it, which is false for NaN.
        no_low, no_high = tf.math.is_nan(low) | (low < 0.0), tf.math.is_nan(high) | (high < 0.0)
        return (no_low | (price >= low)) & (no_high | (price <= high))


def _within(start: tf.Tensor, end: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
    return (start <= now[:, None]) & (now[:, None] < end)


def clock() -> tf.Tensor:
    """Return the server's time, milliseconds since 1970, int64; read at every request."""
    return tf.cast(tf.timestamp() * 1000.0, tf.int64)


def _levels(name: bytes) -> list[str]:
    return name.decode("utf-8").split(CATEGORY_SEPARATOR) if name else []
