"""What a page shows beside answers: facts of products, users' histories, and some users to begin with."""

import numpy as np
from bundle_support import LENGTH, ask


def test_a_product_is_told_as_the_catalogue_has_it_and_an_unknown_one_as_nothing(signatures, trained) -> None:
    _, data = trained
    catalogue = data.catalogue
    answer = ask(signatures, "product_details", product_id=[catalogue.product_id[7], b"nonsense", b""])
    assert answer["title"].tolist() == [catalogue.title[7], b"", b""]
    assert answer["category"].tolist() == [catalogue.category_name[7], b"", b""]
    assert answer["brand"].tolist() == [catalogue.brand_name[7], b"", b""]
    np.testing.assert_allclose(answer["price"], [catalogue.price[7], -1.0, -1.0])


def test_a_users_history_is_what_happened_last_oldest_first(signatures, trained) -> None:
    _, data = trained
    users = data.users()
    answer = ask(signatures, "user_history", user_id=[users["user_id"][4], b"nobody"])
    kinds = [kind for kind in users["history_event_type"][4] if kind][-LENGTH:]
    products = list(users["history_product_id"][4])[-len(kinds) :]
    assert [kind for kind in answer["event_type"][0].tolist() if kind] == kinds
    assert answer["product_id"][0].tolist()[-len(kinds) :] == products
    titles = dict(zip(data.catalogue.product_id.tolist(), data.catalogue.title.tolist(), strict=True))
    for product, title in zip(answer["product_id"][0], answer["title"][0], strict=True):
        assert not product or title == titles[product]
    assert {name: set(values[1]) for name, values in answer.items()} == {name: {b""} for name in answer}


def test_examples_are_users_with_their_products_counted_and_another_seed_draws_others(signatures, trained) -> None:
    _, data = trained
    users = data.users()
    answer = ask(signatures, "example_users", seed=np.array([0, 0, 1], np.int64))
    names = answer["user_id"].tolist()
    assert names[0] == names[1] != names[2]
    assert len(set(names[0])) == 12
    for user, count in zip(names[2], answer["product_count"][2].tolist(), strict=True):
        place = list(users["user_id"]).index(user)
        met = {*users["history_product_id"][place], *users["older_product_id"][place]} - {b""}
        assert count == len(met & set(data.catalogue.product_id.tolist()))
