"""Real slices, put back into the columns, values and file names of their publishers."""

import csv
import gzip
from datetime import datetime, timedelta, timezone

from preprocess_support import write_csv, write_jsonl

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=timezone.utc)


def milliseconds(text):
    return (moment(text) - EPOCH) // timedelta(milliseconds=1)


def amazon_2014(folder, events, products):
    """UCSD's reviews_Beauty_5.json.gz, and meta_Beauty.json.gz, whose lines are Python's and not JSON."""
    reviews = [
        {
            "reviewerID": event["user_id"],
            "asin": event["product_id"],
            "reviewerName": f"Jane {place % 97}",
            "helpful": [place % 3, 3],
            "reviewText": "Very oily and creamy. Not at all what I expected... ordered this to try to highlight.",
            "overall": float(1 + place % 5),
            "summary": "Don't waste your money",
            "unixReviewTime": (at := 1391990400 + 86400 * int(event["position"])),
            "reviewTime": (EPOCH + timedelta(seconds=at)).strftime("%m %d, %Y"),
        }
        for place, event in enumerate(events)
    ]
    with gzip.open(folder / "meta_Beauty.json.gz", "wt", encoding="utf-8") as stream:
        for place, product in enumerate(products):
            row = {
                "asin": product["product_id"],
                "description": "It's for the skin." if place % 2 else None,
                "title": product["title"],
                "imUrl": f"http://ecx.images-amazon.com/images/I/{place}.jpg",
                "salesRank": {"Beauty": place + 1},
                "categories": [["Beauty", *product["category"]]],
                "related": {"also_viewed": ["B0002JHI1I"]},
                **({"price": 3.5 + place} if place % 3 else {}),
                **({"brand": product["brand"]} if product["brand"] else {}),
            }
            stream.write(f"{ {name: value for name, value in row.items() if value is not None} }\n")
    return [write_jsonl(folder / "reviews_Beauty_5.json.gz", reviews), folder / "meta_Beauty.json.gz"]


def online_retail(folder, events, products):
    """UCI's Online Retail.xlsx, saved as CSV: one wide file, a quarter of the lines without customer."""
    titles = {product["product_id"]: product["title"] for product in products}
    lines = [
        {
            "InvoiceNo": event["session_id"],
            "StockCode": event["product_id"],
            "Description": titles[event["product_id"]],
            "Quantity": int(event["quantity"]) * (-1 if event["event_type"] == "return" else 1),
            "InvoiceDate": f"{(at := moment(event['timestamp'])).month}/{at.day}/{at.year} {at.hour}:{at.minute:02}",
            "UnitPrice": event["price"],
            "CustomerID": event["user_id"],
            "Country": event["country"],
        }
        for event in sorted(events, key=lambda event: event["timestamp"])
    ]
    guests = [{**line, "CustomerID": "", "InvoiceNo": f"9{line['InvoiceNo']}"} for line in lines[::4]]
    for place, line in enumerate(guests):
        lines.insert(place * 5, line)
    return [write_csv(folder / "Online Retail.csv", lines)]


def taobao(folder, events, products):
    """Tianchi's UserBehavior.csv: no header line."""
    categories = {product["product_id"]: product["category"][0] for product in products}
    behaviors = {"view": "pv", "favorite": "fav", "cart": "cart", "purchase": "buy"}
    with open(folder / "UserBehavior.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(
            [
                event["user_id"],
                event["product_id"],
                categories[event["product_id"]],
                behaviors[event["event_type"]],
                milliseconds(event["timestamp"]) // 1000,
            ]
            for event in events
        )
    return [folder / "UserBehavior.csv"]


def rees46(folder, events, products):
    """Kaggle's 2019-Oct.csv.gz: one wide file."""
    by_id = {product["product_id"]: product for product in products}
    lines = [
        {
            "event_time": moment(event["timestamp"]).strftime("%Y-%m-%d %H:%M:%S UTC"),
            "event_type": event["event_type"],
            "product_id": event["product_id"],
            "category_id": by_id[event["product_id"]]["category_id"],
            "category_code": ".".join(by_id[event["product_id"]]["category"]),
            "brand": by_id[event["product_id"]]["brand"],
            "price": event["price"],
            "user_id": event["user_id"],
            "user_session": event["session_id"],
        }
        for event in sorted(events, key=lambda event: event["timestamp"])
    ]
    return [write_csv(folder / "2019-Oct.csv.gz", lines)]


def jd(folder, events, products):
    """JD's micro behaviours as rows: codes for users and SKUs, the step in the session, no dates."""
    leaf = {product["product_id"]: product["category"][-1] for product in products}
    lines = [
        {
            "user": event["user_id"],
            "sku": event["product_id"],
            "behavior": event["event_type"],
            "category": leaf[event["product_id"]],
            "step": event["position"],
            "gap": event["elapsed_seconds"],
            "dwell": event["dwell_seconds"],
        }
        for event in events
    ]
    return [write_csv(folder / "JD_Micro_Behaviors.csv", lines)]


def amazon_2023(folder, events, products):
    """McAuley Lab's review and meta files."""
    reviews = [
        {
            "rating": float(event["rating"]),
            "title": f"Five stars {place}",
            "text": "It works.",
            "images": [],
            "asin": f"{event['product_id'][:-1]}{place % 7}",
            "parent_asin": event["product_id"],
            "user_id": event["user_id"],
            "timestamp": milliseconds(event["timestamp"]),
            "helpful_vote": place % 4,
            "verified_purchase": place % 9 > 0,
        }
        for place, event in enumerate(events)
    ]
    metas = [
        {
            "main_category": product["category"][0],
            "title": product["title"],
            "average_rating": 4.5,
            "rating_number": 12 + place,
            "features": ["Soft", "Round"] if place % 2 else [],
            "description": ["A thing.", "Two lines."] if place % 3 else [],
            "price": product["price"] if product["price"] is not None else (None, "None", "—")[place % 3],
            "images": [{"thumb": "https://m.media-amazon.com/images/I/1.jpg"}],
            "videos": [],
            "store": product["brand"] or None,
            "categories": [],
            "details": {"Brand": "x"},
            "parent_asin": product["product_id"],
            "bought_together": None,
        }
        for place, product in enumerate(products)
    ]
    return [
        write_jsonl(folder / "All_Beauty.jsonl.gz", reviews),
        write_jsonl(folder / "meta_All_Beauty.jsonl.gz", metas),
    ]


def esci(folder, products):
    """Amazon's shopping_queries_dataset_products.parquet: no prices, no categories."""
    import pyarrow
    import pyarrow.parquet

    names = {
        "product_id": "product_id",
        "product_title": "title",
        "product_description": "description",
        "product_bullet_point": "bullet_points",
        "product_brand": "brand",
        "product_color": "color",
    }
    columns = {ours: [product[theirs] or None for product in products] for ours, theirs in names.items()}
    path = folder / "shopping_queries_dataset_products.parquet"
    pyarrow.parquet.write_table(pyarrow.table({**columns, "product_locale": ["us"] * len(products)}), path)
    return [path]
