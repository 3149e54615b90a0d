// Search as you type, and what the query is about.
import { byId, element, say } from "./dom.js";
import { Grid, leaf } from "./products.js";
import { firstRow } from "./recommendations.js";
import { Latest } from "./server.js";

// Longer than the pause between two letters of somebody who types, shorter than one that is noticed.
const PAUSE_MS = 160;
const BLANKS = 4;
const INTENTS = 3;
// What is less likely is not worth saying.
const LEAST = 0.05;

/** The search box and its results. */
export class Search {
  #latest = new Latest();
  #timer = 0;

  /** Arguments as of Recommendations; `shopper()` is who shops now. */
  constructor(shop, shopper, act, failed) {
    Object.assign(this, { shop, shopper, failed });
    this.box = byId("query");
    this.grid = new Grid(byId("found"), act, false);
    this.box.addEventListener("input", () => this.#typed());
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#now();
    });
    byId("clear-search").addEventListener("click", () => {
      this.box.value = "";
      this.box.focus();
      this.#typed();
    });
  }

  get #query() {
    return this.box.value.trim();
  }

  #typed() {
    clearTimeout(this.#timer);
    // From the first letter on there is room for the answer, so that nothing moves when it comes.
    byId("results").hidden = !this.#query;
    byId("intent").hidden = !this.shop.server.has("query_intent");
    if (!this.#query) {
      this.#latest.cancel();
      this.grid.clear();
      return;
    }
    byId("results-title").textContent = `Results for “${this.#query}”`;
    this.grid.wait(BLANKS);
    this.#timer = setTimeout(() => this.#now(), PAUSE_MS);
  }

  async #now() {
    clearTimeout(this.#timer);
    const query = this.#query;
    if (!query) return;
    try {
      const found = await this.#latest.run((signal) => this.#ask(query, signal));
      if (!found) return;
      this.grid.show(found.products);
      this.#showIntent(found.intent);
      say(byId("search-status"), found.products.length ? `${found.products.length} products found.` : `No product fits “${query}”: try fewer or other words.`);
    } catch (error) {
      this.grid.clear();
      say(byId("search-status"), "The search has no answer.");
      this.failed(error);
    }
  }

  async #ask(query, signal) {
    const { server, catalogue } = this.shop;
    const shopper = this.shopper();
    const after = shopper.events.length > 0 && server.has("search_for_history");
    const plain = server.has("search_explained") ? "search_explained" : "search";
    const asked = { query: [query] };
    const [answer, intent, personal] = await Promise.all([
      server.ask(plain, asked, signal),
      server.has("query_intent") ? server.ask("query_intent", asked, signal) : null,
      after ? server.ask("search_for_history", { ...asked, ...shopper.history() }, signal) : null,
    ]);
    const explained = firstRow(answer);
    const products = await catalogue.productsOf(personal ? firstRow(personal) : explained, signal);
    const words = wordsOf(explained);
    return { products: products.map((product) => ({ ...product, words: words.get(product.id) })), intent: intent && firstRow(intent) };
  }

  #showIntent(intent) {
    if (!intent) return;
    const pairs = (names, chances) => names.map((name, place) => [name, chances[place]]).filter(([, chance]) => chance >= LEAST);
    const chip = (look, title, words, chance) => element("li", { class: look, title }, element("span", {}, words), element("b", {}, `${Math.round(100 * chance)}%`));
    const categories = pairs(intent.category, intent.category_probability).slice(0, INTENTS);
    const purposes = intent.purpose ? pairs(intent.purpose, intent.purpose_probability).slice(0, 1) : [];
    byId("intent").replaceChildren(
      ...purposes.map(([name, chance]) => chip("purpose", "What the query is for", name, chance)),
      ...categories.map(([name, chance]) => chip("category", name, leaf(name), chance)),
    );
  }
}

/** Return product id to the words of its title, each with what it counts for the query; none of an answer without. */
function wordsOf({ product_id, title_word = [], title_word_weight = [] }) {
  return new Map(title_word.map((words, place) => [
    product_id[place],
    words.map((word, number) => [word, title_word_weight[place][number]]).filter(([word]) => word),
  ]));
}
