// @ts-check
import { serve } from "./private.js";

serve(self);
