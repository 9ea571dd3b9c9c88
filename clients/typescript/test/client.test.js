// Run by tests/clients/test_typescript.py against the server at TXREC_URL.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError, Shop } from "../dist/index.js";

const shop = new Shop({ baseUrl: process.env.TXREC_URL, key: process.env.TXREC_KEY });
const ids = (slate) => slate.items.map((item) => item.item_id);

test("a search, its filters and a product", async () => {
  const slate = await shop.search({ query: "lamp", top_k: 3, filters: { brand: ["acme"] } });
  assert.equal(slate.items.length, 3);
  const product = await shop.item(slate.items[0].item_id);
  assert.equal(product.brand, "acme");
  assert.equal(product.title, slate.items[0].title);
});

test("an event is part of the next recommendation and counts once", async () => {
  const event = { user_id: "typescript/user", event: "click", item_id: "sku-012", event_id: "ts-1" };
  assert.deepEqual(await shop.log(event), { stored: 1, repeated: 0, event_ids: ["ts-1"] });
  assert.equal((await shop.log(event)).repeated, 1);
  const slate = await shop.recommend({ user_id: "typescript/user", top_k: 5 });
  assert.equal(slate.fallback, null);
});

test("more events than one call takes go in several, and ids may hold any character", async () => {
  const user_id = "Ünï/cødé?#% 🙂";
  const events = Array.from({ length: 1_001 }, (_, place) => ({
    user_id, event: "view", item_id: "sku-012", event_id: `many/${place}?#🙂`,
  }));
  const reply = await shop.log(...events);
  assert.equal(reply.stored, 1_001);
  assert.equal(reply.event_ids.at(-1), "many/1000?#🙂");
  const { data } = await shop.http.GET("/v1/users/{user_id}", { params: { path: { user_id } } });
  assert.equal(data.user_id, user_id);
  await assert.rejects(shop.item("a/b?c#d %"), { status: 404, field: "item_id" });
  await assert.rejects(shop.log(), { status: 422 });
});

test("a date in Retry-After is waited for no longer than the client would wait anyway", async () => {
  let calls = 0;
  const busy = new Shop({
    fetch: async () => new Response('{"items": []}', {
      status: calls++ ? 200 : 503,
      headers: { "content-type": "application/json", "retry-after": "Wed, 21 Oct 2065 07:28:00 GMT" },
    }),
  });
  assert.deepEqual(await busy.search({ query: "lamp" }), { items: [] });
});

test("similar products, the caller's own list, and completions", async () => {
  assert.ok(!ids(await shop.similar({ item_id: "sku-012", top_k: 5 })).includes("sku-012"));
  const ranked = ids(await shop.rank({ items: ["sku-001", "sku-012"], query: "lamp" }));
  assert.deepEqual([...ranked].sort(), ["sku-001", "sku-012"]);
  assert.ok((await shop.suggest("la")).suggestions.length > 0);
});

test("a refusal names the field and the request", async () => {
  await assert.rejects(shop.search({ query: "lamp", top_k: 0 }), (error) => {
    assert.ok(error instanceof ApiError);
    assert.equal(error.status, 422);
    assert.equal(error.field, "top_k");
    assert.equal(error.requestId.length, 32);
    return true;
  });
  await assert.rejects(shop.item("nothing"), { status: 404, field: "item_id" });
});

test("an overloaded server is tried again, a wrong request is not", async () => {
  let calls = 0;
  const replies = [503, 503, 200];
  const busy = new Shop({
    fetch: async () => new Response('{"items": []}', {
      status: replies[calls++], headers: { "content-type": "application/json" },
    }),
  });
  assert.deepEqual(await busy.search({ query: "lamp" }), { items: [] });
  assert.equal(calls, 3);
  const gone = new Shop({ attempts: 2, fetch: async () => { throw new TypeError("refused"); } });
  await assert.rejects(gone.search({ query: "lamp" }), { status: 0 });
});
