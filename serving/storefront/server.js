// The REST API of TensorFlow Serving, or of the embedded server, which answers alike.

// A server that was not warmed up builds each signature when it is first asked.
const PATIENCE_MS = 60_000;

/** What went wrong, as one sentence that says how to mend it. */
export class Problem extends Error {}

/** One model of one server. */
export class Server {
  /**
   * @param {string} origin such as "http://localhost:8501"; "" is the origin of the page.
   * @param {string} model its name.
   */
  constructor(origin, model) {
    this.origin = origin;
    this.model = model;
    this.url = `${origin}/v1/models/${encodeURIComponent(model)}`;
    this.place = origin || window.location.origin;
    this.signatures = {};
    this.version = "";
  }

  /** Ask once what the model can be asked. */
  async open() {
    const answer = await this.#fetched(`${this.url}/metadata`);
    if (!answer.ok) throw new Problem(await this.#whyNotServed(answer));
    const metadata = await parsed(answer);
    const signatures = metadata?.metadata?.signature_def?.signature_def;
    if (!signatures) throw new Problem(this.#noServer());
    this.signatures = signatures;
    this.version = metadata.model_spec?.version ?? "";
  }

  /** Say whether the model has this signature. */
  has(signature) {
    return Object.hasOwn(this.signatures, signature);
  }

  /**
   * Ask a signature.
   * @param {string} signature its name.
   * @param {object} inputs name to values, one a row.
   * @param {AbortSignal} [signal] to give up.
   * @returns {Promise<object>} outputs by name, one a row each.
   */
  async ask(signature, inputs, signal) {
    // A body without a content type of its own is a simple request: no preflight before each of them.
    const body = JSON.stringify({ signature_name: signature, inputs });
    const answer = await this.#fetched(`${this.url}:predict`, { method: "POST", body, signal });
    const read = await parsed(answer);
    if (!answer.ok || !read) {
      const why = read?.error ? `: ${read.error}` : "";
      throw new Problem(`The server answered the question “${signature}” with status ${answer.status}${why}.`);
    }
    const names = Object.keys(this.signatures[signature].outputs);
    // A single output comes without its name.
    return names.length === 1 ? { [names[0]]: read.outputs } : read.outputs;
  }

  async #fetched(url, { signal, ...options } = {}) {
    const limits = [AbortSignal.timeout(PATIENCE_MS), ...(signal ? [signal] : [])];
    try {
      return await fetch(url, { ...options, signal: AbortSignal.any(limits), cache: "no-store", credentials: "omit" });
    } catch (error) {
      if (signal?.aborted) throw error;
      if (error.name === "TimeoutError") {
        throw new Problem(`The server at ${this.place} did not answer within ${PATIENCE_MS / 1000} s: see its log, then reload this page.`);
      }
      throw new Problem(await this.#whyUnreachable());
    }
  }

  /** A browser does not tell a script why: an answer that may not be read shows that somebody is there. */
  async #whyUnreachable() {
    try {
      await fetch(this.url, { mode: "no-cors", cache: "no-store", signal: AbortSignal.timeout(3000) });
    } catch {
      const port = new URL(this.place).port || 80;
      return `No server answers at ${this.place}: start one there with “tfrs-shop serve --model_name=${this.model} --model_base_path=… --rest_api_port=${port} --storefront”, or give the address of one that runs.`;
    }
    return `The server at ${this.place} forbids pages of ${window.location.origin} to read its answers (CORS): start it with --rest_api_enable_cors_support, or open the page from the server itself.`;
  }

  async #whyNotServed(answer) {
    const said = await parsed(answer);
    if (typeof said?.error !== "string") return this.#noServer();
    const status = await this.#fetched(this.url);
    const versions = status.ok ? ((await parsed(status))?.model_version_status ?? []) : [];
    const newest = versions[0];
    if (newest && ["START", "LOADING"].includes(newest.state)) {
      return `The server at ${this.place} is still loading the model “${this.model}”: wait a moment, then connect again.`;
    }
    if (newest) {
      const why = newest.status?.error_message || newest.state;
      return `The server at ${this.place} does not serve version ${newest.version} of the model “${this.model}”: ${why}; mend the bundle, and connect again.`;
    }
    return `The server at ${this.place} has no model “${this.model}”: give the name that the server was started with (--model_name).`;
  }

  #noServer() {
    return `What answers at ${this.place} is no model server: give the address of its REST port, such as http://localhost:8501.`;
  }
}

async function parsed(answer) {
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return null;
  }
}

/** Runs one task at a time: a new one takes the place of the one before, whose answer is dropped however late. */
export class Latest {
  #running = null;

  /** Run `task(signal)`; return what it gives, or undefined when another one has begun since. */
  async run(task) {
    this.cancel();
    const own = new AbortController();
    this.#running = own;
    try {
      const value = await task(own.signal);
      return this.#running === own ? value : undefined;
    } catch (error) {
      if (this.#running !== own || own.signal.aborted) return undefined;
      throw error;
    }
  }

  /** Drop what runs. */
  cancel() {
    this.#running?.abort();
    this.#running = null;
  }
}
