// The page: reads its address, asks the server what it can do, and passes on what the shopper does.
import { byId, element, say } from "./dom.js";
import { Catalogue } from "./products.js";
import { Profile } from "./profile.js";
import { Recommendations, firstRow } from "./recommendations.js";
import { Search } from "./search.js";
import { Problem, Server } from "./server.js";
import { Shopper, canAsk } from "./shopper.js";
import { Viewed } from "./viewed.js";

const PAUSE_MS = 80;
const DID = { view: "You viewed", cart: "Put in the cart:", purchase: "You bought" };
// Parts of the page by what they need, where that is a question and not one signature.
const QUESTIONS = { recommend_diverse: "diverse", user_profile: "profile", predict_behavior: "behavior" };

/** Return the address of the server and the model's name, of the page's own address. */
function given() {
  const address = new URLSearchParams(window.location.search);
  const server = (address.get("server") ?? "").trim().replace(/\/+$/, "");
  return { server, model: (address.get("model") ?? "").trim() || "shop", user: address.get("user") ?? "" };
}

/** Say what went wrong, and offer another server. */
function failed(error) {
  if (!(error instanceof Problem)) console.error(error);
  byId("problem-text").textContent = error instanceof Problem ? error.message : `The page does not understand what the server answered (${error.message}): is the model one of tfrs-shop?`;
  byId("problem").hidden = false;
}

class Page {
  /** @param {Server} server that is open. */
  constructor(server) {
    this.shop = { server, catalogue: new Catalogue(server) };
    this.shopper = new Shopper();
    this.seed = 0;
    const act = (product, type) => this.#did(product, type);
    this.recommendations = new Recommendations(this.shop, act, failed);
    this.search = new Search(this.shop, () => this.shopper, act, failed);
    this.profile = new Profile(this.shop, (place) => this.#removed(place), failed);
    this.viewed = new Viewed(this.shop, act, failed);
  }

  /** Begin with this user, or with one of those that the bundle names, or with nobody. */
  async start(user) {
    const { server } = this.shop;
    this.#listen();
    if (server.has("example_users")) user ||= await this.#others();
    await this.#choose(user);
  }

  /** Draw other shoppers to choose from; return the first. */
  async #others() {
    const row = firstRow(await this.shop.server.ask("example_users", { seed: [this.seed++] }));
    const option = (id, place) => element("option", { value: id }, `${id}, ${row.product_count[place]} products met`);
    const known = byId("known");
    known.replaceChildren(known.options[0], ...row.user_id.map(option));
    known.value = this.shopper.id;
    if (known.selectedIndex < 0) known.value = "";
    return row.user_id[0] ?? "";
  }

  #listen() {
    byId("known").addEventListener("change", (event) => event.target.value && this.#choose(event.target.value));
    byId("by-id").addEventListener("submit", (event) => {
      event.preventDefault();
      const id = byId("user").value.trim();
      if (id) this.#choose(id);
    });
    byId("invent").addEventListener("click", () => this.#choose(""));
    byId("others").addEventListener("click", () => this.#others().catch(failed));
    byId("forget").addEventListener("click", () => {
      this.shopper.forget();
      this.#refresh("All is forgotten");
    });
    const slider = byId("variety");
    let timer = 0;
    slider.addEventListener("input", () => {
      this.#variety();
      clearTimeout(timer);
      timer = setTimeout(() => this.recommendations.refresh(this.shopper, this.#variety()), PAUSE_MS);
    });
    this.#variety();
  }

  #variety() {
    const words = Number(byId("variety").value) ? `${byId("variety").value}%` : "off";
    byId("variety-value").textContent = words;
    byId("variety").setAttribute("aria-valuetext", words);
    return `Variety ${words}`;
  }

  async #choose(id) {
    this.viewed.hide();
    const events = id ? await this.#stored(id) : [];
    if (events === null) return;
    this.shopper = new Shopper(id, events);
    byId("known").value = [...byId("known").options].some((option) => option.value === id) ? id : "";
    byId("user").value = id;
    say(byId("who"), this.#who(id, events));
    await this.#refresh(id ? `For ${id}` : "For somebody new");
  }

  #who(id, events) {
    if (!id) return "Somebody new: click products to give them a history.";
    if (!this.shop.server.has("user_history")) return `${id}: this bundle does not tell histories, so what you click is all of it.`;
    return events.length ? `${id}, whose last ${events.length} events the shop remembers.` : `The shop remembers nothing of ${id}.`;
  }

  /** What the bundle remembers of a user, oldest first. */
  async #stored(id) {
    const { server } = this.shop;
    if (!server.has("user_history")) return [];
    try {
      const row = firstRow(await server.ask("user_history", { user_id: [id] }));
      return row.event_type.map((type, place) => ({ product: row.product_id[place], type, title: row.title[place] || row.product_id[place] })).filter(({ type }) => type);
    } catch (error) {
      failed(error);
      return null;
    }
  }

  #did(product, type) {
    this.shopper.add(product.id, type, product.title);
    if (type === "view") this.viewed.show(product);
    this.#refresh(`${DID[type]} ${product.title}`);
  }

  #removed(place) {
    this.shopper.remove(place);
    this.#refresh("Forgotten");
  }

  async #refresh(because) {
    byId("problem").hidden = true;
    await Promise.all([this.recommendations.refresh(this.shopper, because), this.profile.refresh(this.shopper)]);
  }
}

async function main() {
  const { server: origin, model, user } = given();
  const form = byId("connect");
  form.elements.server.value = origin || window.location.origin;
  form.elements.model.value = model;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = new URLSearchParams({ server: form.elements.server.value, model: form.elements.model.value });
    window.location.search = wanted.toString();
  });
  try {
    if (origin && !/^https?:\/\/[^/?#]+$/.test(origin)) {
      throw new Problem(`“${origin}” is no address of a server: give it as http://HOST:PORT.`);
    }
    const server = new Server(origin, model);
    await server.open();
    if (!canAsk("recommend", server)) {
      throw new Problem(`The model “${model}” cannot recommend: give the name of a model that tfrs-shop has exported.`);
    }
    for (const part of document.querySelectorAll("[data-needs]")) {
      const need = part.dataset.needs;
      const question = QUESTIONS[need] ?? (need === "recommend" ? "recommend" : null);
      part.hidden = !(question ? canAsk(question, server) : server.has(need));
    }
    byId("page").inert = false;
    byId("served-by").textContent = `Model ${model}${server.version && `, version ${server.version}`}`;
    await new Page(server).start(user);
  } catch (error) {
    byId("served-by").textContent = "Not connected";
    // Without a server there is nothing that its controls could do.
    byId("page").hidden = true;
    byId("search").hidden = true;
    failed(error);
  }
}

main();
