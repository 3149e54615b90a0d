"""The names that shops give to our fields, the words that they have for our event types, and words for "no value"."""

import re
import unicodedata

# Our field: names of columns, the likeliest first, without case and separators.
EVENT_NAMES: dict[str, tuple[str, ...]] = {
    "user_id": (
        *("userid", "customerid", "visitorid", "reviewerid", "clientid", "buyerid", "shopperid", "memberid"),
        *("accountid", "personid", "profileid", "custid", "uid", "userpseudoid", "fullvisitorid", "anonymousid"),
        *("cookieid", "deviceid", "customernumber", "customerno", "userno", "usernumber", "kundennummer", "kundenid"),
        *("kundennr", "nutzerid", "user", "customer", "visitor", "client", "buyer", "shopper", "member", "reviewer"),
        *("account", "viewer", "kunde", "nutzer", "benutzer", "userhash", "customerhash", "useruuid", "username"),
    ),
    "product_id": (
        *("productid", "parentasin", "itemid", "asin", "sku", "articleid", "stockcode", "movieid", "bookid"),
        *("productcode", "itemcode", "productsku", "itemsku", "variantid", "offerid", "listingid", "skuid", "goodsid"),
        *("contentid", "isbn", "isbn13", "ean", "gtin", "upc", "mpn", "productno", "itemno", "articlenumber"),
        *("productnumber", "itemnumber", "artikelnummer", "artikelnr", "artikelid", "produktid", "produktnummer"),
        *("product", "item", "article", "movie", "book", "artikel", "produkt", "goods", "pid", "iid", "productuuid"),
        *("itemlookupcode", "handle", "productkey", "itemkey"),
    ),
    "event_type": (
        *("eventtype", "event", "eventname", "action", "actiontype", "behaviortype", "behavior", "behaviour"),
        *("behaviourtype", "activity", "activitytype", "interaction", "interactiontype", "type", "action_type"),
        *("ereignis", "aktion", "verb", "op", "usereventtype", "transactiontype", "feedbacktype"),
    ),
    "timestamp": (
        *("timestamp", "eventtime", "eventtimestamp", "datetime", "time", "ts", "unixreviewtime", "unixtime"),
        *("createdat", "occurredat", "eventdate", "date", "invoicedate", "orderdate", "orderedat", "purchasedate"),
        *("purchasedat", "transactiondate", "createdtime", "creationtime", "createdon", "reviewtime", "reviewdate"),
        *("orderpurchasetimestamp", "sentat", "servertime", "clienttime", "visitedat", "at", "when", "datum"),
        *("zeit", "zeitpunkt", "zeitstempel", "bestelldatum", "epoch", "tdat", "dt", "unixtimestamp", "timestampms"),
        *("eventdatetime", "timems", "submittedat", "day"),
    ),
    "position": ("position", "pos", "seq", "sequence", "step", "eventindex", "order", "orderindex", "rank", "nr"),
    "session_id": (
        *("sessionid", "usersession", "session", "visitid", "invoiceno", "invoice", "invoiceid", "orderid"),
        *("orderno", "ordernumber", "transactionid", "basketid", "cartid", "receiptid", "visit", "sitzung"),
        *("bestellnummer", "rechnungsnummer", "gasessionid", "sessionuuid", "orderkey"),
    ),
    "rating": ("rating", "overall", "stars", "score", "reviewscore", "starrating", "reviewrating", "bewertung", "rate"),
    "query": (
        *("query", "searchquery", "searchterm", "searchtext", "searchphrase", "keywords", "keyword", "q"),
        *("searchstring", "searchkeyword", "searchterms", "querytext", "suchbegriff", "suche", "term"),
    ),
    "quantity": ("quantity", "qty", "units", "count", "menge", "anzahl", "numitems", "pieces", "stueck", "amount"),
    "price": (
        *("price", "unitprice", "saleprice", "itemprice", "currentprice", "preis", "einzelpreis", "stueckpreis"),
        *("priceusd", "priceeur", "pricegbp", "cost", "amount", "value", "revenue", "listprice", "stueckpreis"),
    ),
}
PRODUCT_NAMES: dict[str, tuple[str, ...]] = {
    "product_id": EVENT_NAMES["product_id"],
    "title": ("title", "name", "displayname", "label", "headline", "bezeichnung", "titel", "shortdescription"),
    "description": (
        *("description", "longdescription", "longtext", "desc", "body", "bodyhtml", "summary", "details", "about"),
        *("features", "bulletpoints", "bulletpoint", "bullets", "beschreibung", "detaildesc", "overview", "text"),
        *("shortdescription", "plot", "color", "colour", "farbe", "material"),
    ),
    "category": (
        *("category", "categories", "categorypath", "categorycode", "categoryname", "googleproductcategory"),
        *("taxonomy", "breadcrumbs", "breadcrumb", "genres", "genre", "producttype", "type", "maincategory"),
        *("department", "departmentname", "productgroup", "productgroupname", "section", "kategorie", "warengruppe"),
        *("collection", "aisle", "topic", "class", "categoryid", "catid", "cat", "itemcategory", "categorytree"),
    ),
    "brand": (
        *("brand", "brandname", "manufacturer", "vendor", "make", "marke", "hersteller", "publisher", "author"),
        *("designer", "store", "seller", "supplier", "maker", "artist", "label"),
    ),
    "price": (*EVENT_NAMES["price"][:-3], "listprice", "msrp", "retailprice", "regularprice", "amount"),
    "rating_mean": (
        *("ratingmean", "averagerating", "avgrating", "meanrating", "rating", "stars", "ratingaverage"),
        *("reviewaverage", "averagereviewscore", "reviewscore", "customerrating", "bewertung"),
    ),
    "rating_count": (
        *("ratingcount", "ratingnumber", "numratings", "numreviews", "reviewcount", "reviewscount", "ratingscount"),
        *("numberofreviews", "numberofratings", "reviews", "votes", "ratings", "nreviews"),
    ),
    "sales_rank": ("salesrank", "bestsellersrank", "bestsellerrank", "popularityrank"),
    "on_sale_from": ("onsalefrom", "availablefrom", "validfrom", "launchdate", "launchedat", "publishedat"),
    "on_sale_to": ("onsaleto", "availableto", "availableuntil", "validto", "validuntil", "discontinuedat", "enddate"),
}
USER_NAMES = {"user_id": EVENT_NAMES["user_id"]}
NAMES = {"events": EVENT_NAMES, "products": PRODUCT_NAMES, "users": USER_NAMES}

# A column such as product_title or itemPrice is a title or a price.
PREFIXES = {
    "events": ("event", "user", "order", "item", "product"),
    "products": ("product", "item", "article", "artikel", "produkt", "prod", "goods", "movie", "book"),
    "users": (),
}
# What only a table of people, or only a catalogue, has: it tells which of the two has a column called "id".
_OF_USERS = (
    "age gender sex city country state zip zipcode postcode email phone birthday birthdate dateofbirth firstname "
    "lastname surname occupation segment loyalty signupdate signedup registered registeredat income language alter "
    "geschlecht stadt land membership clubmemberstatus newsletter"
)
OF_USERS = frozenset(_OF_USERS.split())

_TYPES = {
    "view": "view views viewed viewing pv pageview pageviewed productview viewitem viewproduct detailview "
    "viewcontent browse browsed visit visited open opened see seen look ansicht angesehen screenview",
    "click": "click clicks clicked clk productclick selectitem itemclick klick tap",
    "favorite": "favorite favourite favorites fav favs favorited wishlist addtowishlist like liked likes save saved "
    "bookmark collect collected heart merkzettel addtofavorites",
    "cart": "cart carts addtocart add2cart addcart cartadd atc basket addtobasket addedtocart addtobag bag warenkorb "
    "incart addtocard",
    "purchase": "purchase purchases purchased buy buys bought order orders ordered orderplaced ordercompleted "
    "transaction conversion pay paid payment alipay sale sold checkoutcompleted kauf gekauft bestellung completeorder",
    "return": "return returns returned refund refunded retoure rueckgabe",
    "rating": "rating rate rated ratings star bewertung",
    "review": "review reviewed reviews rezension",
    "search": "search searches searched query viewsearchresults searchresults sitesearch suche gesucht searching",
}
EVENT_WORDS = {word: ours for ours, words in _TYPES.items() for word in words.split()}
# A word of these says that a behaviour is no wish for the product.
AGAINST = ("remove", "delete", "unlike", "dislike", "impression", "cancel", "unfav", "hide", "skip", "notinterested")

MISSING = frozenset(
    ["NULL", "null", "Null", "None", "none", "NaN", "nan", "NAN", "N/A", "n/a", "NA", "\\N", "(null)", "(not set)"]
) | {"-", "--", "—", "#N/A", "undefined", "(none)"}


def plain(name: str) -> str:
    """Return a name without case, accents and separators.

    >>> plain("Item ID"), plain("Menge (Stück)")
    ('itemid', 'mengestuck')
    """
    letters = unicodedata.normalize("NFKD", name).lower()
    return "".join(letter for letter in letters if letter.isalnum())


def words_of(name: str) -> list[str]:
    """Return the words of a name.

    >>> words_of("unixReviewTime"), words_of("product_bullet_point")
    (['unix', 'review', 'time'], ['product', 'bullet', 'point'])
    """
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [word for word in (plain(part) for part in re.split(r"[\W_]+", spaced)) if word]


def likeness(name: str, table: str, field: str) -> float:
    """Return how much a column's name says that it holds `field`: 0 nothing, 100 that it is the name itself."""
    known = NAMES[table][field]
    found = plain(name)
    if found == plain(field):
        return 100.0
    if found in known:
        return 99.0 - known.index(found)
    for prefix in PREFIXES[table]:
        rest = found.removeprefix(prefix)
        if rest != found and rest in known and field not in ("product_id", "user_id", "session_id"):
            return 90.0 - known.index(rest)
    parts = words_of(name)
    best = 0.0
    for start in range(len(parts)):
        for end in range(start + 1, len(parts) + 1):
            piece = "".join(parts[start:end])
            # A single word that is part of many names ("user", "date") says little of a longer one.
            if piece in known and (end - start > 1 or piece in _TELLING):
                best = max(best, 40.0 - known.index(piece) / 4)
    return best


_TELLING_WORDS = (
    "price preis title description category genre genres brand manufacturer rating query quantity qty timestamp "
    "asin sku userid itemid productid customerid sessionid visitorid stars datetime keyword"
)
_TELLING = frozenset(_TELLING_WORDS.split())


def event_word(value: str) -> str:
    """Return our event type for a shop's own word, or "".

    >>> event_word("add_to_cart"), event_word("Product Viewed"), event_word("login")
    ('cart', 'view', '')
    """
    found = plain(value)
    for prefix in ("", "product", "item", "event", "user", "page"):
        if found.startswith(prefix) and (ours := EVENT_WORDS.get(found.removeprefix(prefix))):
            return ours
    return EVENT_WORDS.get(found.removesuffix("event"), "")
