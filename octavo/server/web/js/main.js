// Puts the parts together: theme, key, model's name, documents, conversation, text.

import { json, key, locked } from "./api.js";
import { $, guarded, problem } from "./dom.js";
import * as chat from "./chat.js";
import * as documents from "./documents.js";
import * as memory from "./memory.js";
import * as theme from "./theme.js";
import * as viewer from "./viewer.js";

const connect = guarded(async () => {
  const models = await json("/v1/models");
  const model = models.data[0].id;
  $("model").textContent = model;
  chat.use(model);
  problem(null);
  await documents.refresh();
  memory.refresh();
});

locked.addEventListener("locked", () => {
  $("key-form").hidden = false;
  $("key").focus();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set($("key").value);
  $("key-form").hidden = true;
  $("key").value = "";
  connect();
});
documents.changed.addEventListener("chosen", (event) => {
  chat.about(event.detail);
  viewer.show(event.detail);
});

theme.begin();
documents.begin();
chat.begin();
viewer.begin();
connect().then(memory.begin);
