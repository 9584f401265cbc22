// @ts-check
import { Split } from "./split.js";
import { serve } from "./talk.js";

serve(self, Split, "helora-split");
