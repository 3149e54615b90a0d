// What is known of the shopper: a profile in words and bars, what comes next, and the history.
import { byId, element } from "./dom.js";
import { leaf, priceText } from "./products.js";
import { firstRow } from "./recommendations.js";
import { Latest } from "./server.js";
import { eventName } from "./shopper.js";

const SHOWN = 3;
const NEXT = 4;

/** The column beside the products. */
export class Profile {
  #latest = new Latest();

  /** @param {(place: number) => void} remove takes an event out of the history. */
  constructor(shop, remove, failed) {
    Object.assign(this, { shop, remove, failed });
  }

  /** Show the history at once, and the rest when the server has answered. */
  async refresh(shopper) {
    this.#history(shopper);
    try {
      const said = await this.#latest.run((signal) => Promise.all(["profile", "behavior"].map((question) => this.#row(shopper, question, signal))));
      if (!said) return;
      this.#profile(said[0]);
      this.#next(said[1]);
    } catch (error) {
      this.failed(error);
    }
  }

  async #row(shopper, question, signal) {
    const asked = shopper.asks(question, this.shop.server);
    return asked && firstRow(await this.shop.server.ask(...asked, signal));
  }

  #profile(row) {
    if (!row) return;
    const bars = (title, names, weights, shorten) => {
      const shown = names.map((name, place) => [name, weights[place]]).filter(([name, weight]) => name && weight > 0);
      return shown.length ? chart(title, shown.slice(0, SHOWN), shorten) : null;
    };
    const prices = row.price_median >= 0 ? element("p", { class: "prices" }, `Prices ${priceText(row.price_low)} to ${priceText(row.price_high)}, in the middle ${priceText(row.price_median)}`) : null;
    const parts = [bars("Categories", row.category, row.category_weight, leaf), bars("Brands", row.brand, row.brand_weight, String), prices].filter(Boolean);
    byId("profile").replaceChildren(...(parts.length ? parts : [element("p", { class: "empty" }, "Nothing is known yet: click some products.")]));
  }

  #next(row) {
    if (!row) return;
    const parts = [];
    if (row.event_type) {
      parts.push(chart("Next event", row.event_type.map((name, place) => [eventNoun(name), row.event_type_probability[place]]).slice(0, NEXT), String));
    }
    if (row.category) {
      parts.push(chart("Next category", row.category.map((name, place) => [name, row.category_probability[place]]).slice(0, SHOWN), leaf));
    }
    if (typeof row.purchase_probability === "number") {
      parts.push(element("p", { class: "prices" }, `A purchase follows in this session: ${percent(row.purchase_probability)}`));
    }
    byId("next").replaceChildren(...parts);
  }

  #history(shopper) {
    const list = byId("history");
    const line = (event, place) =>
      element("li", {}, element("span", { class: "kind" }, eventName(event.type)), element("span", { class: "what", title: event.title }, event.product ? event.title : `“${event.title}”`), element("button", { type: "button", class: "remove", "aria-label": `Forget: ${eventName(event.type)} ${event.title}`, click: () => this.#removed(list, place) }, "×"));
    const lines = shopper.events.map(line).reverse();
    list.replaceChildren(...(lines.length ? lines : [element("li", { class: "empty" }, "Nothing yet.")]));
    byId("forget").disabled = !shopper.events.length;
  }

  #removed(list, place) {
    this.remove(place);
    list.focus({ preventScroll: true });
  }
}

function chart(title, pairs, shorten) {
  const bar = ([name, share]) => {
    const fill = element("span", { class: "bar", "aria-hidden": "true" });
    fill.style.setProperty("--share", String(Math.min(1, share)));
    return element("li", { title: name }, element("span", { class: "name" }, shorten(name)), element("span", { class: "share" }, percent(share)), fill);
  };
  return element("div", { class: "chart" }, element("h3", {}, title), element("ul", { "aria-label": title }, ...pairs.map(bar)));
}

function percent(share) {
  return `${Math.round(100 * share)}%`;
}

function eventNoun(type) {
  return { view: "View", click: "Click", favorite: "Like", cart: "Add to cart", purchase: "Purchase", rating: "Rating", review: "Review" }[type] ?? type;
}
