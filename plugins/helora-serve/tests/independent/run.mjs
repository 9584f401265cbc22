// Δ of one token from a server: offer, keys and a session by HTTP and WebSocket, as docs/protocol.md has them.
// Usage: node --experimental-websocket run.mjs http://127.0.0.1:PORT/ MODULE JSON-OF-X
import { Client, read, sha256, text, whole } from "./client.mjs";

const [server, name, numbers] = process.argv.slice(2);
const offer = await (await fetch(new URL("v1/offer", server))).json();
const client = new Client(offer.delta, name),
  keys = client.evaluationKeys(),
  digest = sha256(keys).toString("hex");
const put = await fetch(new URL(`v1/keys/${digest}`, server), { method: "PUT", body: keys });
if (put.status !== 201) throw new Error(`keys: ${put.status}`);

const socket = new WebSocket(new URL(offer.path.slice(1), server).href.replace("http", "ws"), [offer.subprotocol]);
socket.binaryType = "arraybuffer";
const send = (header, payload = Buffer.alloc(0)) => {
  const fields = Object.entries(header),
    head = Buffer.concat([
      Buffer.from([0x80 | fields.length]),
      ...fields.flatMap(([key, value]) => [text(key), value]),
    ]);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(head.length);
  socket.send(Buffer.concat([length, head, payload]));
};
const next = () =>
  new Promise((resolve, reject) => {
    socket.onclose = () => reject(new Error("the socket was closed"));
    socket.onmessage = ({ data }) => {
      const frame = Buffer.from(data),
        end = 2 + frame.readUInt16BE(0),
        head = read(frame.subarray(2, end)),
        header = {};
      for (let i = 0; i < head.length; i += 2) header[head[i]] = head[i + 1];
      if (header.type === "notice") return;
      if (header.type !== "welcome" && header.type !== "answer")
        return reject(new Error(`${header.code}: ${header.message}`));
      resolve({ header, payload: frame.subarray(end) });
    };
  });
await new Promise((resolve) => (socket.onopen = resolve));
send({ type: text("open"), version: text(offer.version), keys: text(digest) });
await next();
let request = 0,
  received = 0;
const ask = async (message) => {
  send({ type: text("ask"), request: whole(++request), received: whole(received) }, message);
  const { header, payload } = await next();
  received = header.number;
  return payload;
};
console.log(JSON.stringify(await client.delta(JSON.parse(numbers), ask)));
send({ type: text("close") });
socket.close();
