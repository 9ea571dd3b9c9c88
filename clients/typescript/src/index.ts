/**
 * Client of the txrec HTTP API. Paths, bodies and replies are typed by `schema.ts`, generated from the OpenAPI document.
 *
 *     const shop = new Shop({ baseUrl: "http://127.0.0.1:8000" });
 *     const slate = await shop.search({ query: "blue jeans", top_k: 5 });
 */
import createFetchClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];
/** A reply with products, best first. */
export type Slate = Schemas["SlateReply"];
/** A product as the catalogue has it. */
export type Product = Schemas["ProductReply"];
/** An event of a user. */
export type LiveEvent = Schemas["LiveEvent"];
/** Fields of a body, of which only the named ones must be set: the server has defaults for the others. */
type Fields<T, Required extends keyof T = never> = Partial<T> & Pick<T, Required>;

/** The server refused a request, or did not answer. */
export class ApiError extends Error {
  /**
   * @param status HTTP status; 0 = no answer.
   * @param field the offending field, if one is to blame.
   * @param requestId finds the request in the server's log.
   */
  constructor(
    readonly status: number,
    message: string,
    readonly field: string | null = null,
    readonly requestId: string = "",
  ) {
    super(field ? `${field}: ${message}` : message);
    this.name = "ApiError";
  }
}

export interface Options {
  /** Address of the server. */
  baseUrl?: string;
  /** API key, where the server needs one. Do not ship it in a page. */
  key?: string;
  /** Longest wait for one attempt, milliseconds. */
  timeoutMs?: number;
  /** Attempts in all, where the server is overloaded or out of reach. */
  attempts?: number;
  /** Sends requests; for tests. */
  fetch?: (request: Request) => Promise<Response>;
}

const TEMPORARY = new Set([429, 502, 503, 504]);
const FIRST_WAIT_MS = 100;
const MAX_WAIT_MS = 5_000;
/** Events that the API takes in one call. */
const MAX_EVENTS = 1_000;

/** The endpoints of a shop. `http` reaches those that have no method of their own. */
export class Shop {
  /** Typed access to every path of the API. */
  readonly http: Client<paths>;

  constructor(options: Options = {}) {
    this.http = createFetchClient<paths>({
      baseUrl: options.baseUrl ?? "http://127.0.0.1:8000",
      headers: options.key ? { Authorization: `Bearer ${options.key}` } : {},
      fetch: retrying(options),
    });
  }

  /** Recommendations for a user. */
  async recommend(body: Fields<Schemas["RecommendRequest"]>): Promise<Slate> {
    return unwrap(await this.http.POST("/v1/recommend", { body: body as Schemas["RecommendRequest"] }));
  }

  /** Products for a search. */
  async search(body: Fields<Schemas["SearchRequest"], "query">): Promise<Slate> {
    return unwrap(await this.http.POST("/v1/search", { body: body as Schemas["SearchRequest"] }));
  }

  /** Products similar to one. */
  async similar(body: Fields<Schemas["SimilarRequest"], "item_id">): Promise<Slate> {
    return unwrap(await this.http.POST("/v1/similar", { body: body as Schemas["SimilarRequest"] }));
  }

  /** The caller's own list in order. */
  async rank(body: Fields<Schemas["RankRequest"], "items">): Promise<Slate> {
    return unwrap(await this.http.POST("/v1/rank", { body: body as Schemas["RankRequest"] }));
  }

  /** Completions of what was typed. */
  async suggest(query: string, options: { user_id?: string; limit?: number } = {}): Promise<Schemas["SuggestReply"]> {
    return unwrap(await this.http.GET("/v1/suggest", { params: { query: { q: query, ...options } } }));
  }

  /**
   * Logs events of users, in calls of at most `MAX_EVENTS`; an event without an id gets one here, so that a repeated call
   * counts once.
   */
  async log(...events: LiveEvent[]): Promise<Schemas["EventsReply"]> {
    const identified = events.map((event) => ({ ...event, event_id: event.event_id ?? crypto.randomUUID() }));
    const total: Schemas["EventsReply"] = { stored: 0, repeated: 0, event_ids: [] };
    for (let start = 0; start === 0 || start < identified.length; start += MAX_EVENTS) {
      const body = identified.slice(start, start + MAX_EVENTS);
      const reply = unwrap(await this.http.POST("/v1/events", { body }));
      total.stored += reply.stored;
      total.repeated += reply.repeated;
      total.event_ids.push(...reply.event_ids);
    }
    return total;
  }

  /** A product. */
  async item(itemId: string): Promise<Product> {
    return unwrap(await this.http.GET("/v1/items/{item_id}", { params: { path: { item_id: itemId } } }));
  }
}

/** A `fetch` with a time limit that tries again, with full jitter, where that may help. */
function retrying(options: Options): (request: Request) => Promise<Response> {
  const send = options.fetch ?? ((request: Request) => fetch(request));
  const attempts = options.attempts ?? 4;
  return async (request) => {
    for (let attempt = 1; ; attempt++) {
      let reply: Response | undefined;
      let reason = "";
      try {
        const signal = AbortSignal.timeout(options.timeoutMs ?? 10_000);
        reply = await send(new Request(request.clone(), { signal }));
      } catch (error) {
        reason = String(error);
      }
      if (reply && !TEMPORARY.has(reply.status)) return reply;
      if (attempt >= attempts) {
        if (reply) return reply;
        throw new ApiError(0, `no answer from the server: ${reason}`);
      }
      const bound = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** (attempt - 1));
      const namedMs = 1_000 * (Number(reply?.headers.get("retry-after")) || 0); // a date counts as none
      await new Promise((resolve) => setTimeout(resolve, Math.min(MAX_WAIT_MS, namedMs) + Math.random() * bound));
    }
  };
}

/** The body of a reply, or an `ApiError` of the refusal. */
function unwrap<T>(result: { data?: T; error?: unknown; response: Response }): T {
  if (result.data !== undefined) return result.data;
  const body = result.error as Partial<Schemas["ErrorReply"]> | undefined;
  const status = result.response.status;
  throw new ApiError(status, body?.error?.message ?? `HTTP ${status}`, body?.error?.field, body?.request_id);
}
