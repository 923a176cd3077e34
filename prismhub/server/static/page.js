// The page: which of its parts is shown, as the address says.

import { showAdapters } from "./adapters.js";
import { get } from "./api.js";
import { pauseAsk, startAsk } from "./ask.js";
import { byId } from "./dom.js";
import { readFragment } from "./fragment.js";
import { showScene, startSceneView } from "./scene_view.js";
import { stopPlaying } from "./scenes.js";
import { lastSearch, showSearch, startSearch } from "./search.js";

const TITLES = { search: "Search", ask: "Ask a video", adapters: "Adapters" };

async function route() {
  const { view, search } = readFragment();
  for (const name of Object.keys(TITLES)) {
    byId(name).hidden = name !== view;
    if (name === view) byId(`to-${name}`).setAttribute("aria-current", "page");
    else byId(`to-${name}`).removeAttribute("aria-current");
  }
  document.title = `${search.q ? `${search.q} · ` : ""}${TITLES[view]} · prismhub`;
  if (view !== "ask") pauseAsk();
  if (view !== "search") {
    stopPlaying();
    byId("to-search").href = lastSearch();
  }
  if (view === "adapters") await showAdapters();
  if (view === "search") await showSearch(search);
  await showScene(view === "search" ? search : {});
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is what is looked at
  byId("main").focus();
});
byId("adapters-head").tabIndex = -1;
startSearch();
startAsk();
startSceneView();
addEventListener("hashchange", route);
route();
get("/v1/adapters").then(
  (found) => {
    byId("encoder").textContent = `encoder ${found.encoder.name}`;
  },
  () => {},
);
