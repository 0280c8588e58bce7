// What works without the wasm, and before it has loaded: choosing how the messages of a stream are set, the
// buttons that copy, the key that sends, turning notifications on and off, and the mark on the icon.

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
    const { ask, stop } = await import(button.dataset.module);
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

  addEventListener("click", (event) => {
    const { target, ctrlKey, metaKey, shiftKey } = event;
    const link = target.closest?.("a[data-view]");
    if (link && !ctrlKey && !metaKey && !shiftKey) {
      event.preventDefault();
      choose(link);
    }
    const button = target.closest?.("button.copy");
    if (button) copy(button);
    const notifyButton = target.closest?.("button.notify");
    if (notifyButton) notify(notifyButton);
  });

  addEventListener("DOMContentLoaded", async () => {
    // The title begins with a number while there are messages that the reader has not seen.
    const icon = document.querySelector("link[rel=icon]");
    const { href } = icon;
    const mark = () => {
      const marked = document.title.startsWith("(");
      icon.href = marked ? href.replace(".svg", "-unread.svg") : href;
    };
    new MutationObserver(mark).observe(document.querySelector("title"), { childList: true });

    const button = document.querySelector("button.notify");
    if (button && stored((storage) => storage.getItem(notifyKey)) !== null) (await import(button.dataset.module)).start();
  });

  // Submits the form of the composer, as its button would.
  addEventListener("keydown", ({ target, key, ctrlKey, metaKey }) => {
    if (key === "Enter" && (ctrlKey || metaKey)) target.closest?.(".composer")?.requestSubmit();
  });
}
