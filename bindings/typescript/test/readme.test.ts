// The examples of the README run as they are printed, against a real node: set IRIS_BINARY to the iris binary.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Iris, binary } from "./iris.js";

const root = fileURLToPath(new URL("../../", import.meta.url)); // the package, so that its own name resolves
const run = promisify(execFile);

it("the README's examples", { skip: binary ? false : "IRIS_BINARY is not set" }, async () => {
  const readme = await readFile(path.join(root, "README.md"), "utf8");
  const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]!);
  assert.ok(blocks.length >= 8);
  await using iris = await Iris.start();
  const folder = await mkdtemp(path.join(root, "dist", "readme-"));
  try {
    await writeFile(path.join(folder, "readme.ts"), blocks.join("\n").replaceAll("55555", String(iris.port)));
    const tsc = path.join(root, "node_modules", ".bin", "tsc");
    await run(tsc, ["--ignoreConfig", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext",
      "--types", "node", "readme.ts"], { cwd: folder }).catch((err: { stdout: string }) => assert.fail(err.stdout));
    const { stdout } = await run(process.execPath, ["readme.js"], { cwd: folder, timeout: 20_000 });
    const lines = stdout.trim().split("\n");
    for (const line of ["HELLO", "no-service", "everybody was told: lunch is ready", "news: it works", "sunny", "you said something"]) {
      assert.ok(lines.includes(line), `"${line}" is missing in:\n${stdout}`);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});
