// What works without the wasm, and before it has loaded: choosing how the messages of a stream are set, the
// buttons that copy, the key that sends, opening the filter, turning notifications on and off, the mark on the
// icon, and the number of readers, from the page's connection.

{
  const root = document.documentElement;
  const { stream } = document.currentScript.dataset;
  const key = `tidings:view:${stream}`;
  const notifyKey = `tidings:notify:${stream}`;
  // Storage may be absent, refused or full.
  const stored = (use) => {
    try {
      return use(localStorage);
    } catch {
      return null;
    }
  };

  // A choice overrides what the page decides. The one in the address was made without scripts, and the
  // server has rendered it.
  if (stream) root.dataset.view ??= stored((storage) => storage.getItem(key)) ?? "";

  const choose = (link) => {
    const { view } = link.dataset;
    root.dataset.view = view;
    stored((storage) => storage.setItem(key, view));
    const address = new URL(location);
    if (address.searchParams.has("view")) {
      address.searchParams.delete("view");
      history.replaceState(history.state, "", address);
    }
    // The style sheet now hides this link and shows the other.
    link.parentElement.querySelector(`a:not([data-view="${view}"])`)?.focus();
  };

  // Turns the notifications of this stream on or off. Their code is loaded when they are first wanted.
  const notify = async (button) => {
    let ask, stop;
    try {
      ({ ask, stop } = await import(button.dataset.module));
    } catch {
      button.parentElement.querySelector(".notify-note").textContent = "This cannot be loaded now. Try again later.";
      return;
    }
    if (root.dataset.notify !== undefined) {
      stop();
      stored((storage) => storage.removeItem(notifyKey));
    } else if (await ask()) {
      stored((storage) => storage.setItem(notifyKey, ""));
    }
  };

  // Copies the command, or the JSON message, of a button.
  const copy = async (button) => {
    const source = button.parentElement.querySelector("code, summary");
    let label = "Copied";
    try {
      // Missing where the page is not a secure context: on plain HTTP, except from this computer.
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      getSelection().selectAllChildren(source);
      label = "Selected";
    }
    button.textContent = label;
  };

  // Opens the filter, which is loaded when it is needed. Where it cannot be loaded, the link leads to the
  // page that finds without scripts.
  const find = async (link) => {
    // What is typed meanwhile is not lost.
    let typed = "";
    const collect = (event) => {
      const { key, target, ctrlKey, metaKey, altKey } = event;
      if (key.length > 1 || ctrlKey || metaKey || altKey || target.closest?.("input, textarea")) return;
      event.preventDefault();
      typed += key;
    };
    addEventListener("keydown", collect, true);
    try {
      const { open } = await import(link.dataset.find);
      open(link, typed);
    } catch {
      location.assign(link.href);
    } finally {
      removeEventListener("keydown", collect, true);
    }
  };

  addEventListener("click", (event) => {
    const { target, ctrlKey, metaKey, shiftKey } = event;
    const link = target.closest?.("a[data-view], a[data-find]");
    if (link && !ctrlKey && !metaKey && !shiftKey) {
      event.preventDefault();
      if (link.dataset.find) find(link);
      else choose(link);
    }
    const button = target.closest?.("button.copy");
    if (button) copy(button);
    const notifyButton = target.closest?.("button.notify");
    if (notifyButton) notify(notifyButton);
  });

  // Notifications are on: from the beginning, because a tab that is opened in the background would otherwise let its
  // connection go.
  const notifies = stream && stored((storage) => storage.getItem(notifyKey)) !== null;
  if (notifies) root.dataset.notify = "";

  addEventListener("DOMContentLoaded", async () => {
    // The title begins with a number while there are messages that the reader has not seen.
    const icon = document.querySelector("link[rel=icon]");
    const href = icon?.href;
    const mark = () => {
      const marked = document.title.startsWith("(");
      icon.href = marked ? href.replace(".svg", "-unread.svg") : href;
    };
    if (icon) new MutationObserver(mark).observe(document.querySelector("title"), { childList: true });

    if (!notifies) return;
    const button = document.querySelector("button.notify");
    try {
      (await import(button.dataset.module)).start();
    } catch {
      // Without the script, or on a page without the button, there are none.
      delete root.dataset.notify;
    }
  });

  // Submits the form of the composer, as its button would; and the key that opens the filter, unless the
  // reader has turned it off.
  addEventListener("keydown", (event) => {
    const { target, key, ctrlKey, metaKey, altKey } = event;
    if (key === "Enter" && (ctrlKey || metaKey)) target.closest?.(".composer")?.requestSubmit();
    if (key !== "/" || ctrlKey || metaKey || altKey || target.closest?.("input, textarea, [contenteditable]")) return;
    const link = document.querySelector("a[data-find]");
    if (!link || stored((storage) => storage.getItem("tidings:find-key")) === "off") return;
    event.preventDefault();
    find(link);
  });

  // The number of readers is not known while the page is not connected, also if it is paused.
  const watchers = () => document.querySelector(".stream-head .watchers");
  const forgetWatchers = () => watchers()?.setAttribute("data-unknown", "");
  addEventListener("offline", forgetWatchers);
  addEventListener("tidings:connected", ({ detail }) => {
    forgetWatchers();
    detail.addEventListener("error", forgetWatchers);
    detail.addEventListener("watchers", ({ data }) => {
      const line = watchers();
      // This page is one of them.
      const others = data - 1;
      if (!line) return;
      line.dataset.now = data;
      delete line.dataset.unknown;
      line.textContent =
        others < 1 ? "No other reader is connected now."
        : others === 1 ? "One other reader is connected now."
        : `${others} other readers are connected now.`;
    });
  });
}
