// The list of recommendations: with reasons, and as various as the slider says.
import { byId, say } from "./dom.js";
import { Grid } from "./products.js";
import { Latest } from "./server.js";
import { canAsk, reason } from "./shopper.js";

const METHOD = "mmr";
const SEED = 1;
const BLANKS = 12;

/** The section "Recommended". */
export class Recommendations {
  #latest = new Latest();
  #reasons = new Latest();

  /**
   * @param {object} shop `{server, catalogue}`.
   * @param {(product: object, type: string) => void} act what a click does.
   * @param {(error: Error) => void} failed takes what went wrong.
   */
  constructor(shop, act, failed) {
    this.shop = shop;
    this.failed = failed;
    const withReasons = ["explained", "explain"].some((question) => canAsk(question, shop.server));
    this.grid = new Grid(byId("products"), act, withReasons);
    this.slider = byId("variety");
  }

  /** How various the list shall be, 0 to 1. */
  get strength() {
    return Number(this.slider.value) / 100;
  }

  /** Ask for this shopper; what was asked before is dropped. `because` opens what is said when it is there. */
  async refresh(shopper, because = "") {
    this.grid.wait(BLANKS);
    this.#reasons.cancel();
    try {
      const shown = await this.#latest.run((signal) => this.#ask(shopper, signal));
      if (!shown) return;
      const { products, row } = shown;
      const fresh = this.grid.show(products);
      say(byId("status"), sentence(because, products.length, fresh));
      if (!row.because_title) await this.#reasons.run((signal) => this.#explain(shopper, products, signal));
    } catch (error) {
      this.grid.clear();
      say(byId("status"), "There is no answer to show.");
      this.failed(error);
    }
  }

  async #ask(shopper, signal) {
    const { server, catalogue } = this.shop;
    const strength = canAsk("diverse", server) ? this.strength : 0;
    const asked =
      (strength > 0 && shopper.asks("diverse", server)) || shopper.asks("explained", server) || shopper.asks("recommend", server);
    if (!asked) return { products: [], row: {} };
    const [signature, inputs] = asked;
    if (Object.hasOwn(server.signatures[signature].inputs, "strength")) {
      Object.assign(inputs, { method: [METHOD], strength: [strength], seed: [SEED] });
    }
    const row = firstRow(await server.ask(signature, inputs, signal));
    const products = await catalogue.productsOf(row, signal);
    if (row.because_title) {
      for (const product of products) {
        product.reason = reason(shopper, product.id, row.because_product_id[product.place], row.because_title[product.place]);
      }
    }
    return { products, row };
  }

  /** A list that is made as a whole comes without reasons: they are asked for when it is shown. */
  async #explain(shopper, products, signal) {
    const asked = products.length ? shopper.asks("explain", this.shop.server, products.length) : null;
    if (!asked) return;
    const [signature, inputs] = asked;
    const answer = await this.shop.server.ask(signature, { ...inputs, product_id: products.map(({ id }) => id) }, signal);
    products.forEach(({ id }, place) => {
      if (!(answer.because_share[place][0] > 0)) return;
      this.grid.explain(id, reason(shopper, id, answer.because_product_id[place][0], answer.because_title[place][0]));
    });
  }
}

/** Return the first row of each output. */
export function firstRow(answer) {
  return Object.fromEntries(Object.entries(answer).map(([name, rows]) => [name, rows[0]]));
}

function sentence(because, count, fresh) {
  const start = because ? `${because}: ` : "";
  if (!count) return `${start}the shop has nothing to recommend.`;
  const said = `${start}${count} recommendations`;
  return fresh ? `${said}, ${fresh} of them new.` : `${said}.`;
}
