// What the page knows of products, and how one is shown.
import { element, hash } from "./dom.js";

const PRICE = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const LEVELS = " > ";

/** Facts of products, each asked for once; where the server has no `product_details` there are titles only. */
export class Catalogue {
  #facts = new Map();

  constructor(server) {
    this.server = server;
  }

  /** Return the products of one row of an answer, best first; "" in place of an id is no product. */
  async productsOf(row, signal) {
    const known = row.product_id.map((id, place) => ({ id, title: row.title[place] || id, place })).filter(({ id }) => id);
    await this.#learn(known, signal);
    return known.map(({ id, place }) => ({ ...this.#facts.get(id), place }));
  }

  async #learn(products, signal) {
    const unknown = products.filter(({ id }) => !this.#facts.has(id));
    if (!unknown.length) return;
    let facts = null;
    if (this.server.has("product_details")) {
      facts = await this.server.ask("product_details", { product_id: unknown.map(({ id }) => id) }, signal);
    }
    unknown.forEach(({ id, title }, place) => {
      const category = facts?.category[place] ?? "";
      const price = facts?.price[place] ?? -1;
      this.#facts.set(id, { id, title, category, brand: facts?.brand[place] ?? "", price });
    });
  }
}

/** Return the innermost name of a category path. */
export function leaf(category) {
  return category.split(LEVELS).at(-1);
}

/** Return a price as people read it, "" where none is known. The shop's currency is not in the data. */
export function priceText(price) {
  return price >= 0 ? PRICE.format(price) : "";
}

/** Give a tile its colour, so that a list of many kinds looks like one, and the product's initials. */
export function paint(tile, product) {
  tile.style.setProperty("--hue", String(hash(product.category || product.title, 24) * 15));
  tile.style.setProperty("--turn", `${hash(product.id, 8) * 45}deg`);
  tile.textContent = initials(product.title);
}

function initials(title) {
  const words = title.match(/[\p{L}\p{N}]+/gu) ?? ["?"];
  return words.slice(0, 2).map((word) => [...word][0].toUpperCase()).join("");
}

/** Return the buttons that put a product into the cart, and buy it; `act(product, type)` is what they do. */
export function actions(product, act) {
  const button = (type, words, name, look) =>
    element("button", { type: "button", class: look, "data-act": type, "aria-label": name, click: () => act(product, type) }, words);
  return [
    button("cart", "Add to cart", `Add to cart: ${product.title}`, "quiet"),
    button("purchase", "Buy", `Buy: ${product.title}`, "primary"),
  ];
}

/** A list of product cards that keeps its cards, its height and the focus from one answer to the next. */
export class Grid {
  #cards = new Map();

  /**
   * @param {HTMLElement} list the `<ol>`.
   * @param {(product: object, type: string) => void} act what a click does: type is view, cart or purchase.
   * @param {boolean} reasons whether cards have a line for the reason.
   */
  constructor(list, act, reasons) {
    this.list = list;
    this.act = act;
    this.reasons = reasons;
  }

  /** Show that `count` products are on their way; what is there stays until they are. */
  wait(count) {
    this.list.setAttribute("aria-busy", "true");
    if (this.#cards.size) return;
    const blank = () => element("li", { class: "card blank", "aria-hidden": "true" }, element("div", { class: "tile" }));
    this.list.replaceChildren(...Array.from({ length: count }, blank));
    if (this.reasons) this.list.classList.add("with-reasons");
  }

  /** Show products; return how many were not there before. */
  show(products) {
    const focus = this.#focused();
    const before = this.#cards;
    this.#cards = new Map(products.map((product) => [product.id, before.get(product.id) ?? this.#card(product)]));
    const fresh = products.filter(({ id }) => !before.has(id));
    for (const { id } of products) this.#cards.get(id).classList.toggle("fresh", before.size > 0 && !before.has(id));
    for (const product of products) {
      this.explain(product.id, product.reason ?? "");
      this.#mark(product);
    }
    this.list.replaceChildren(...this.#cards.values());
    this.list.setAttribute("aria-busy", "false");
    if (focus) this.#focus(focus, [...this.#cards.values()]);
    return before.size ? fresh.length : 0;
  }

  /** Forget all. */
  clear() {
    this.#cards = new Map();
    this.list.replaceChildren();
    this.list.setAttribute("aria-busy", "false");
  }

  /** Write the reason on a card. */
  explain(id, text) {
    const line = this.#cards.get(id)?.querySelector(".reason");
    if (!line) return;
    line.textContent = text;
    line.title = text;
  }

  /** Mark the words of a title that were asked for; `product.words` are `[word, weight]`, none where nobody asked. */
  #mark({ id, title, words = [] }) {
    const shown = words.some(([, weight]) => weight > 0)
      ? words.flatMap(([word, weight], place) => [place ? " " : "", weight > 0 ? element("mark", {}, word) : word])
      : [title];
    this.#cards.get(id).querySelector(".title").replaceChildren(...shown);
  }

  #card(product) {
    const tile = element("span", { class: "tile", "aria-hidden": "true" });
    paint(tile, product);
    const open = element("button", { type: "button", class: "open", "data-act": "view", title: product.title, click: () => this.act(product, "view") }, tile, element("span", { class: "title" }, product.title));
    const meta = element("p", { class: "meta" }, element("span", { class: "category" }, leaf(product.category)), element("span", { class: "price" }, priceText(product.price)));
    const why = this.reasons ? element("p", { class: "reason" }) : null;
    return element("li", { class: "card", "data-id": product.id }, open, meta, why, element("p", { class: "actions" }, ...actions(product, this.act)));
  }

  #focused() {
    const active = document.activeElement;
    const card = this.list.contains(active) ? active.closest(".card") : null;
    return card && { id: card.dataset.id, act: active.dataset.act, place: [...this.list.children].indexOf(card) };
  }

  /** A card that is gone hands the focus to the one in its place. */
  #focus({ id, act, place }, cards) {
    const card = this.#cards.get(id) ?? cards[Math.min(place, cards.length - 1)];
    (card?.querySelector(`[data-act="${act}"]`) ?? this.list.closest("section")).focus({ preventScroll: true });
  }
}
