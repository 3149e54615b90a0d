// The product that was clicked last, with what is like it and what goes with it.
import { byId, element } from "./dom.js";
import { actions, leaf, paint, priceText } from "./products.js";
import { firstRow } from "./recommendations.js";
import { Latest } from "./server.js";

const RAIL = 5;
// Name of the signature, and its input for one product.
const RAILS = { similar: (id) => [id], complements: (id) => [[id]] };

/** The panel of one product. */
export class Viewed {
  #latest = new Latest();

  /** Arguments as of Recommendations. */
  constructor(shop, act, failed) {
    Object.assign(this, { shop, act, failed });
  }

  /** Show a product; the rails have their room from the start. */
  async show(product) {
    paint(byId("viewed-tile"), product);
    byId("viewed-title").textContent = product.title;
    byId("viewed-meta").textContent = [product.brand, leaf(product.category), priceText(product.price)].filter(Boolean).join(" · ") || "\u00a0";
    byId("viewed-actions").replaceChildren(...actions(product, this.act));
    byId("viewed").hidden = false;
    const rails = Object.keys(RAILS).filter((name) => this.shop.server.has(name));
    for (const name of rails) byId(name).replaceChildren();
    try {
      const found = await this.#latest.run((signal) => Promise.all(rails.map((name) => this.#products(name, product.id, signal))));
      found?.forEach((products, place) => this.#rail(byId(rails[place]), products));
    } catch (error) {
      this.failed(error);
    }
  }

  /** Nothing is viewed. */
  hide() {
    this.#latest.cancel();
    byId("viewed").hidden = true;
  }

  async #products(signature, id, signal) {
    const answer = await this.shop.server.ask(signature, { product_id: RAILS[signature](id) }, signal);
    return (await this.shop.catalogue.productsOf(firstRow(answer), signal)).slice(0, RAIL);
  }

  #rail(list, products) {
    const chip = (product) => {
      const tile = element("span", { class: "tile", "aria-hidden": "true" });
      paint(tile, product);
      return element("li", {}, element("button", { type: "button", class: "chip", title: product.title, click: () => this.act(product, "view") }, tile, element("span", { class: "title" }, product.title), element("span", { class: "price" }, priceText(product.price))));
    };
    list.replaceChildren(...(products.length ? products.map(chip) : [element("li", { class: "empty" }, "Nothing is.")]));
  }
}
