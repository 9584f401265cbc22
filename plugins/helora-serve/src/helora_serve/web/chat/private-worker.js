// @ts-check
import { Private } from "./private.js";
import { serve } from "./talk.js";

serve(self, Private, "helora-base");
