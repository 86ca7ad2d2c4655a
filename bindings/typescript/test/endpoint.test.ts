import assert from "node:assert/strict";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, it } from "node:test";
import { dial, mistrust, socketFolders } from "../src/endpoint.js";
import { NoNodeError } from "../src/errors.js";
import { FakeNode } from "./fakenode.js";
import { quiet } from "./quiet.js";

const signal = AbortSignal.timeout(60_000);
let folder: string;
const before = process.env["IRIS_RUNTIME_DIR"];
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "iris-endpoint-"));
  process.env["IRIS_RUNTIME_DIR"] = folder;
});
afterEach(async () => {
  if (before === undefined) delete process.env["IRIS_RUNTIME_DIR"];
  else process.env["IRIS_RUNTIME_DIR"] = before;
  await rm(folder, { recursive: true });
});

it("the folders are those of relay.md 1.3, in its order", () => {
  assert.deepEqual(socketFolders({ env: { IRIS_RUNTIME_DIR: "/a", XDG_RUNTIME_DIR: "/b" }, uid: 7 }), ["/a"]);
  assert.deepEqual(socketFolders({ env: { IRIS_RUNTIME_DIR: "", XDG_RUNTIME_DIR: "/b" }, uid: 7 }), ["/b/iris", "/run/iris"]);
  assert.deepEqual(socketFolders({ env: { TMPDIR: "/c/" }, uid: 7 }), ["/c/iris-7", "/run/iris"]);
  assert.deepEqual(socketFolders({ env: { TMPDIR: "", XDG_RUNTIME_DIR: "" }, uid: 7 }), ["/tmp/iris-7", "/run/iris"]);
  assert.deepEqual(socketFolders({ env: { XDG_RUNTIME_DIR: "/b" }, uid: 0 }), ["/run/iris"]);
  assert.deepEqual(socketFolders({ env: { IRIS_RUNTIME_DIR: "/a" }, uid: undefined }), []);
});

it("a folder that others can write, a link and what is missing are not used", async () => {
  const uid = process.getuid!();
  assert.equal(await mistrust(folder, uid), undefined);
  if (uid !== 0) assert.match((await mistrust(folder, uid + 1))!, /another user/);
  assert.match((await mistrust(path.join(folder, "none"), uid))!, /missing/);
  const link = path.join(folder, "link");
  await mkdir(path.join(folder, "real"), { mode: 0o700 });
  await symlink(path.join(folder, "real"), link);
  assert.match((await mistrust(link, uid))!, /link/);
  for (const mode of [0o720, 0o702]) {
    await chmod(folder, mode);
    assert.match((await mistrust(folder, uid))!, /others can write/);
  }
});

it("the socket comes first, then TCP, and nobody is a NoNodeError", async () => {
  await using node = await FakeNode.start();
  const server = net.createServer().listen(path.join(folder, `${node.port}.sock`));
  await once(server, "listening");
  const [atSocket] = await Promise.all([once(server, "connection"), dial(node.port, () => {}, quiet, signal).then((s) => s.destroy())]);
  (atSocket[0] as net.Socket).destroy();
  await chmod(folder, 0o777); // not to be trusted any more
  (await dial(node.port, () => {}, quiet, signal)).destroy();
  await node.session();
  await chmod(folder, 0o700);
  await new Promise((resolve) => server.close(resolve));
  (await dial(node.port, () => {}, quiet, signal)).destroy();
  await node.session();
  await node[Symbol.asyncDispose]();
  await assert.rejects(dial(node.port, () => {}, quiet, signal), NoNodeError);
});
