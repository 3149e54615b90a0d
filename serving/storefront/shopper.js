// Who shops, and what they did: either as the bundle knows them, or as the page saw it.

// More than a query tower reads.
const LONGEST = 100;

// Signatures that ask the same of a stored user and of a history.
const FORMS = {
  recommend: ["serving_default", "recommend_for_history"],
  explained: ["recommend_explained", "recommend_for_history_explained"],
  diverse: ["recommend_diverse", "recommend_for_history_diverse"],
  profile: ["user_profile", "user_profile_for_history"],
  behavior: ["predict_behavior_for_user", "predict_behavior"],
  explain: ["explain", "explain_for_history"],
};

/** One shopper. An event is `{product, type, title}`; product "" is a search, whose words are the title. */
export class Shopper {
  /**
   * @param {string} id of a stored user; "" is an invented one.
   * @param {object[]} events oldest first, as the bundle has them.
   */
  constructor(id = "", events = []) {
    this.id = id;
    this.known = events;
    this.events = [...events];
    this.stored = id !== "";
  }

  /** Something happened. */
  add(product, type, title) {
    this.events.push({ product, type, title });
    this.#compare();
  }

  /** The event at this place never happened. */
  remove(place) {
    this.events.splice(place, 1);
    this.#compare();
  }

  /** Nothing ever happened. */
  forget() {
    this.events = [];
    this.stored = false;
  }

  /** A stored user is asked about by id while nothing is new: the bundle knows more of them than a history says. */
  #compare() {
    const same = this.events.length === this.known.length && this.events.every((event, place) => event === this.known[place]);
    this.stored = this.id !== "" && same;
  }

  /** The history as a request of `rows` equal rows gives it. */
  history(rows = 1) {
    const events = this.events.filter((event) => event.product).slice(-LONGEST);
    const ids = events.length ? events.map((event) => event.product) : [""];
    const types = events.length ? events.map((event) => event.type) : [""];
    return { history_product_id: Array(rows).fill(ids), history_event_type: Array(rows).fill(types) };
  }

  /** The signature and inputs that ask `question`, a key of FORMS, of this shopper; null: the server has none. */
  asks(question, server, rows = 1) {
    const [ofUser, ofHistory] = FORMS[question];
    if (server.has(ofHistory) && !(this.stored && server.has(ofUser))) return [ofHistory, this.history(rows)];
    // To somebody without an id, or with news that no signature takes, this is the best answer there is.
    return server.has(ofUser) ? [ofUser, { user_id: Array(rows).fill(this.id) }] : null;
  }

  /** Say what was last done with a product, for "because you …"; "" is unknown. */
  did(product) {
    return this.events.findLast((event) => event.product === product)?.type ?? "";
  }
}

/** Say whether the server can be asked `question` in any form. */
export function canAsk(question, server) {
  return FORMS[question].some((signature) => server.has(signature));
}

const DONE = { view: "viewed", click: "looked at", favorite: "liked", cart: "added", purchase: "bought", return: "returned", rating: "rated", review: "reviewed" };

/** Return the sentence "because you viewed X" that says why `shown` is recommended, or "". */
export function reason(shopper, shown, product, title) {
  if (!product) return title ? `Because you searched for “${title}”` : "";
  const did = DONE[shopper.did(product)] ?? "met";
  return product === shown ? `You ${did} this before` : `Because you ${did} ${title || product}`;
}

/** Return what an event was, as one word or two. */
export function eventName(type) {
  const names = { view: "Viewed", click: "Looked at", favorite: "Liked", cart: "In the cart", purchase: "Bought", return: "Returned", rating: "Rated", review: "Reviewed", search: "Searched" };
  return names[type] ?? type;
}
