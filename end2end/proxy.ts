// A proxy between a browser and a server: it changes pages, and cuts connections.

import { once } from "node:events";
import { type IncomingMessage, type Server as HttpServer, type ServerResponse, createServer, request } from "node:http";
import { type AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { type Server } from "./tidings.ts";

/** Passes requests on to a server. */
export class Proxy {
  /** Changes the HTML of each page on its way. */
  rewrite = (html: string): string => html;
  private isCut = false;
  private readonly http: HttpServer;

  private constructor(private readonly target: string) {
    this.http = createServer((incoming, outgoing) => this.pass(incoming, outgoing));
    this.http.on("connection", (socket) => this.isCut && socket.destroy());
  }

  static async start({ url }: Server): Promise<Proxy> {
    const proxy = new Proxy(url);
    await once(proxy.http.listen(0, "127.0.0.1"), "listening");
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.http.address() as AddressInfo).port}`;
  }

  /** Breaks all connections, and each new one, until they are restored. */
  cut(): void {
    this.isCut = true;
    this.http.closeAllConnections();
  }

  restore(): void {
    this.isCut = false;
  }

  close(): void {
    this.http.close().closeAllConnections();
  }

  private pass(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { method, headers } = incoming;
    // Uncompressed, so that a page can be changed.
    const onward = request(this.target + incoming.url, { method, headers: { ...headers, "accept-encoding": "identity" }, agent: false });
    onward.on("response", (answer) => this.reply(answer, outgoing).catch(() => outgoing.destroy()));
    onward.on("error", () => outgoing.destroy());
    outgoing.on("close", () => onward.destroy());
    incoming.pipe(onward);
  }

  private async reply(answer: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { statusCode, headers } = answer;
    if (!headers["content-type"]?.startsWith("text/html")) {
      outgoing.writeHead(statusCode!, headers);
      return pipeline(answer, outgoing);
    }
    const page = this.rewrite(await text(answer));
    delete headers["content-length"];
    outgoing.writeHead(statusCode!, headers).end(page);
  }
}
