// The rows of the live list of the streams. The wasm connects and shows the status of the connection; the
// events of the list are shown here.
//
// A change is shown in its row at once. Rows are added, moved and removed only while the list has neither
// the keyboard focus nor a pointer that moves over it, so that none moves away from under a finger. No row
// is announced: a list that changes all day would drown everything else.

{
  // As many as the server renders.
  const MAX_ROWS = 1000;
  // How long a pointer must rest before rows move.
  const REST_MS = 3_000;
  // As the server strips them (escapes.rs).
  const ESCAPE_SEQUENCES = /\x1b(?:[\]PX^_](?:[^\x00-\x1f]*(?:\x07|\x1b\\))?|\[[ -?]*[@-~]?|[ -/]*[0-~]?)/g;
  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" });
  const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

  // The changes that are not shown yet, by name: a stream, or null for one that was deleted.
  const changes = new Map();
  // While all streams arrive: the names of the rows that have not arrived yet.
  let unconfirmed;
  let frame;
  let timer;
  let movedAt = -REST_MS;
  // The list that they are about: a page that has failed gets another one.
  let followed;

  const list = () => document.querySelector(".streams");
  const rows = () => new Map([...list().children].map((row) => [row.dataset.stream, row]));
  const setText = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  const setTime = (element, date) => setText(element, `${day.format(date)}, ${time.format(date)}`);

  // A new row, without its contents.
  const create = (name) => {
    const row = document.getElementById("stream-row").content.firstElementChild.cloneNode(true);
    const link = row.querySelector("a");
    link.textContent = name;
    link.href += name;
    row.dataset.stream = name;
    return row;
  };

  const update = (row, stream) => {
    const [state, messages, watchers] = row.querySelector(".facts").children;
    row.dataset.state = stream?.state ?? "deleted";
    if (!stream) return setText(state, "Deleted");
    setText(state, stream.state === "ended" ? "Ended" : "Open");
    setText(messages, `${stream.messages} message${stream.messages === 1 ? "" : "s"}`);
    setText(watchers, `${stream.watchers} watching`);
    const last = row.querySelector(".last");
    last.hidden = !stream.last;
    if (!stream.last) return;
    const [text, when] = last.children;
    setText(text, stream.last.data.replace(ESCAPE_SEQUENCES, ""));
    when.dateTime = stream.last.at;
    setTime(when, new Date(stream.last.at));
  };

  // Newest activity first, then by name, as the server orders them.
  const order = (row) => [Date.parse(row.querySelector("time").dateTime) || 0, row.dataset.stream];
  const compare = ([one, oneName], [other, otherName]) => other - one || (oneName < otherName ? -1 : 1);

  // Moves the rows to their places.
  const arrange = () => {
    if (!list()) return;
    clearTimeout(timer);
    // When the focus leaves, the rows are arranged.
    if (list().contains(document.activeElement)) return;
    if (performance.now() - movedAt < REST_MS) {
      timer = setTimeout(arrange, REST_MS);
      return;
    }
    const ordered = [...list().children].filter((row) => row.dataset.state !== "deleted").map((row) => [order(row), row]);
    ordered.sort(([one], [other]) => compare(one, other));
    let next = list().firstElementChild;
    for (const [, row] of ordered.slice(0, MAX_ROWS)) {
      if (row === next) next = next.nextElementSibling;
      else list().insertBefore(row, next);
    }
    if (ordered.length > MAX_ROWS) document.querySelector(".listing .most").hidden = false;
    while (next) {
      const removed = next;
      next = next.nextElementSibling;
      removed.remove();
    }
    count();
  };

  const count = () => {
    const { length } = list().children;
    list().dataset.rows = length;
    for (const [name, isShown] of [["some", length], ["none", !length]]) {
      document.querySelector(`.listing .${name}`).hidden = !isShown;
    }
  };

  const show = () => {
    frame = undefined;
    if (!list()) return;
    try {
      const shown = rows();
      for (const [name, stream] of changes) {
        let row = shown.get(name);
        // At the end for now, where it moves no other row.
        if (!row && stream) list().append((row = create(name)));
        if (row) update(row, stream);
      }
      changes.clear();
      count();
      arrange();
    } catch (error) {
      // Other programs have changed the rows. The next heartbeat finds that their number is wrong, and the
      // page recovers.
      list().dataset.rows = "unknown";
      console.warn("Tidings: the list cannot be updated.", error);
    }
  };

  const change = (name, stream) => {
    changes.set(name, stream);
    // A hidden tab has no frames: it shows the changes when it is shown.
    frame ??= requestAnimationFrame(show);
  };

  const expectAll = () => {
    unconfirmed = new Set([...rows().keys(), ...changes.keys()]);
  };

  const follow = (source) => {
    if (!list()) return;
    if (list() !== followed) {
      followed = list();
      changes.clear();
      unconfirmed = undefined;
    }
    if (!source.url.includes("last_event_id=")) expectAll();
    source.addEventListener("stream", ({ data }) => {
      const stream = JSON.parse(data);
      unconfirmed?.delete(stream.name);
      change(stream.name, stream);
    });
    source.addEventListener("deleted", ({ data }) => change(data, null));
    source.addEventListener("reset", ({ data }) => {
      if (JSON.parse(data).reason !== "expired") expectAll();
    });
    source.addEventListener("listed", () => {
      for (const name of unconfirmed ?? []) change(name, null);
      unconfirmed = undefined;
    });
    // The server renders times in UTC.
    for (const element of list().querySelectorAll("time")) {
      if (element.dateTime) setTime(element, new Date(element.dateTime));
    }
    const zone = document.querySelector(".listing .zone");
    if (zone) zone.hidden = true;
  };

  addEventListener("tidings:connected", ({ detail }) => follow(detail));
  addEventListener("tidings:heartbeat", () => {
    const { dataset } = list() ?? {};
    if (dataset) dataset.beat = Number(dataset.beat ?? 0) + 1;
  });
  addEventListener("focusout", () => list() && setTimeout(arrange));
  addEventListener("pointermove", ({ target }) => {
    if (target.closest?.(".streams")) movedAt = performance.now();
  });
}
