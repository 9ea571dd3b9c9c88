/** A shop page in one file: a search, recommendations, and events of users who agree to them. `?api=URL` names the API. */
import { Tracker } from "./tracker.js";

const api = new URLSearchParams(location.search).get("api") ?? "http://127.0.0.1:8000";
const tracker = new Tracker({ url: api });
const [form, list, status, consent] = ["search", "products", "status", "consent"].map((id) => document.getElementById(id));
let stopWatching = () => {};

async function show(path, body) {
  status.textContent = "…";
  const reply = await fetch(`${api}${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, ...(tracker.userId ? { user_id: tracker.userId } : {}), top_k: 8 }),
  });
  const slate = await reply.json();
  if (!reply.ok) {
    status.textContent = slate.error.message;
    return;
  }
  stopWatching();
  list.replaceChildren(...slate.items.map((item) => {
    const product = document.createElement("li");
    product.dataset.itemId = item.item_id;
    product.textContent = item.title ?? item.item_id;
    return product;
  }));
  status.textContent = body.query ? `${slate.items.length} products for “${body.query}”` : "Recommended for you";
  stopWatching = tracker.watch(list, slate, { query: body.query });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const query = new FormData(form).get("query").trim();
  void show(query ? "/v1/search" : "/v1/recommend", query ? { query } : {});
});
consent.checked = tracker.consent;
consent.addEventListener("change", () => tracker.setConsent(consent.checked));
void show("/v1/recommend", {});
