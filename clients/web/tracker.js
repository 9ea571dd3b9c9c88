/**
 * Impression and click tracker for the pages of a shop, as an ES module without dependencies.
 *
 *     import { Tracker } from "./tracker.js";
 *     const tracker = new Tracker({ url: "https://recommender.shop.example" });
 *     tracker.setConsent(true);                       // what the user chose in the shop's dialogue
 *     tracker.watch(list, slate, { query: "jeans" }); // children of `list` carry data-item-id
 *
 * Without consent nothing is stored in the browser and nothing is sent. An impression counts once half of a product has
 * been visible for a second. Events go in batches; those that wait when the page is left go as a beacon. Every event
 * has an id, so that one that is sent twice counts once.
 */

const CONSENT = "txrec-consent";
const USER = "txrec-user";
const MAX_WAITING = 500;

/**
 * @typedef {object} Options
 * @property {string} [url] address of the API, or of the shop's own path that passes events on; default: same origin
 * @property {string} [userId] of a user who is logged in; default: a random id, kept in localStorage after consent
 * @property {number} [batchSize] events that are sent together at most
 * @property {number} [flushMs] longest wait of an event, milliseconds
 * @property {number} [visibleMs] time that a product must be visible for an impression, milliseconds
 */

export class Tracker {
  /** @param {Options} [options] */
  constructor({ url = "", userId = "", batchSize = 20, flushMs = 2_000, visibleMs = 1_000 } = {}) {
    this.endpoint = `${url}/v1/events`;
    this.batchSize = batchSize;
    this.flushMs = flushMs;
    this.visibleMs = visibleMs;
    this.loggedIn = userId;
    /** @type {object[]} */
    this.waiting = [];
    this.timer = 0;
    this.sending = false;
    this.numDropped = 0;
    this.consent = localStorage.getItem(CONSENT) === "yes";
    addEventListener("pagehide", () => this.beacon());
    document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && this.beacon());
  }

  /**
   * Records the user's choice. Withdrawing it drops what waits and removes the random id.
   * @param {boolean} consent
   */
  setConsent(consent) {
    this.consent = consent;
    if (consent) {
      localStorage.setItem(CONSENT, "yes");
      return;
    }
    this.waiting = [];
    clearTimeout(this.timer);
    this.timer = 0;
    localStorage.removeItem(USER);
    localStorage.removeItem(CONSENT);
  }

  /** The user's id; null without consent. */
  get userId() {
    if (!this.consent) return null;
    if (this.loggedIn) return this.loggedIn;
    let random = localStorage.getItem(USER);
    if (random === null) {
      random = `web-${randomId()}`;
      localStorage.setItem(USER, random);
    }
    return random;
  }

  /**
   * Takes an event; it is sent with the next batch. Ignored without consent.
   * @param {{event: string, item_id?: string, query?: string, value?: number, request_id?: string}} event
   */
  track(event) {
    if (!this.consent) return;
    this.waiting.push({ ...event, user_id: this.userId, event_id: randomId(), ts: Date.now() * 1_000 });
    this.bound();
    if (this.waiting.length >= this.batchSize) void this.flush();
    else this.schedule();
  }

  /**
   * Reports impressions and clicks of the products of a slate.
   * @param {Element} list its descendants with `data-item-id` are the products
   * @param {{request_id: string}} slate reply of the API
   * @param {{query?: string}} [context] the search that the slate answers
   * @returns {() => void} stops watching
   */
  watch(list, slate, { query } = {}) {
    const common = { request_id: slate.request_id, ...(query ? { query } : {}) };
    /** @type {Map<Element, number>} */
    const timers = new Map();
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        clearTimeout(timers.get(target));
        if (!isIntersecting) continue;
        timers.set(target, window.setTimeout(() => {
          observer.unobserve(target);
          this.track({ event: "impression", item_id: itemOf(target), ...common });
        }, this.visibleMs));
      }
    }, { threshold: 0.5 });
    for (const product of list.querySelectorAll("[data-item-id]")) observer.observe(product);
    const onClick = (/** @type {Event} */ event) => {
      const product = event.target instanceof Element ? event.target.closest("[data-item-id]") : null;
      if (product !== null) this.track({ event: "click", item_id: itemOf(product), ...common });
    };
    list.addEventListener("click", onClick);
    return () => {
      observer.disconnect();
      timers.forEach((timer) => clearTimeout(timer));
      list.removeEventListener("click", onClick);
    };
  }

  /** Sends what waits; events whose sending failed wait for the next attempt. */
  async flush() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (this.sending || this.waiting.length === 0) return;
    this.sending = true;
    const batch = this.waiting.splice(0, this.batchSize);
    let again = false;
    try {
      const reply = await fetch(this.endpoint, { ...request(batch), keepalive: true });
      again = reply.status >= 500 || reply.status === 429;
      if (!reply.ok && !again) console.warn(`txrec: ${batch.length} events refused: HTTP ${reply.status}`);
    } catch {
      again = true; // no connection: the next attempt is by the timer
    } finally {
      this.sending = false;
    }
    if (again && this.consent) this.waiting.unshift(...batch);
    this.bound();
    if (this.waiting.length >= this.batchSize && !again) await this.flush();
    else if (this.waiting.length > 0) this.schedule();
  }

  /** Hands what waits over to the browser, which sends it even when the page is gone. */
  beacon() {
    while (this.consent && this.waiting.length > 0) {
      const batch = this.waiting.slice(0, this.batchSize);
      const body = new Blob([JSON.stringify(batch)], { type: "text/plain" }); // no preflight, which may come too late
      if (!navigator.sendBeacon(this.endpoint, body)) return; // the browser's buffer is full
      this.waiting.splice(0, batch.length);
    }
  }

  schedule() {
    if (this.timer === 0) this.timer = window.setTimeout(() => void this.flush(), this.flushMs);
  }

  /** Drops the oldest events where more wait than memory is meant for, and counts them. */
  bound() {
    const surplus = this.waiting.length - MAX_WAITING;
    if (surplus > 0) {
      this.waiting.splice(0, surplus);
      this.numDropped += surplus;
    }
  }
}

/** @param {Element} product */
function itemOf(product) {
  return product.getAttribute("data-item-id") ?? "";
}

/** @param {object[]} batch */
function request(batch) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(batch) };
}

/** 128 random bits; crypto.randomUUID exists in secure contexts only. */
function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
