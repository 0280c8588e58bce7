// What works without the wasm, and before it has loaded: choosing how the messages of a stream are set, the
// buttons that copy, and the key that sends.

{
  const root = document.documentElement;
  const { stream } = document.currentScript.dataset;
  const key = `tidings:view:${stream}`;
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
  });

  // Submits the form of the composer, as its button would.
  addEventListener("keydown", ({ target, key, ctrlKey, metaKey }) => {
    if (key === "Enter" && (ctrlKey || metaKey)) target.closest?.(".composer")?.requestSubmit();
  });
}
